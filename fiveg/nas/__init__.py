"""NAS messages of TS 24.501: gmm (5GMM), gsm (5GSM), identity, causes; codec.py is how they are written down."""
