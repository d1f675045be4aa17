#!/usr/bin/env bash
# What a newcomer does, in a bare Debian 12 (run by `make test-fresh` inside lab/fresh.sh): the demo and the tests as root,
# then the demo as an ordinary user in a checkout of their own.
set -euo pipefail
make demo
make test
useradd --create-home --shell /bin/bash newcomer
git clone -q . /home/newcomer/mpquic-upf
chown -R newcomer: /home/newcomer/mpquic-upf
exec su - newcomer -c 'cd mpquic-upf && make demo'
