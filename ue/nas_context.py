"""What the UE has of its registration on all accesses together: USIM, 5G-GUTI, one security context (TS 33.501 §6.3.2)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field

from fiveg import keys
from fiveg.aka import Usim
from fiveg.milenage import Milenage
from fiveg.nas.gmm import NO_KSI, RegistrationRequest, SecurityModeCommand
from fiveg.nas.identity import Guti, Suci
from fiveg.nas_security import NEA0, NEA2, NIA2, NasSecurityContext, Role
from node.events import Events
from node.secrets import Secret
from ue.config import Subscriber, UeConfig

CAPABILITY = bytes((0x80 >> NEA0 | 0x80 >> NEA2, 0x80 >> NIA2))
"""UE security capability. NIA0 is never offered: nothing of ours goes without integrity (R-104)."""


@dataclass(slots=True)
class Candidate:
    """K_AMF of a challenge that was right, until the SECURITY MODE COMMAND takes it into use."""

    k_amf: Secret
    ngksi: int


@dataclass(slots=True)
class NasContext:
    config: UeConfig
    subscriber: Subscriber
    events: Events
    usim: Usim = field(init=False, repr=False)
    snn: str = field(init=False)
    guti: Guti | None = None
    security: NasSecurityContext | None = None
    candidate: Candidate | None = None
    _secret: Secret | None = None

    def __post_init__(self) -> None:
        s = self.subscriber
        self.usim = Usim(Milenage(s.k.reveal(), s.opc.reveal()), s.sqn)
        self.snn = keys.snn(self.config.plmn.mcc, self.config.plmn.mnc)
        for secret in (s.k, s.opc):
            self.events.register_secret(secret)

    @property
    def suci(self) -> Suci:
        return Suci.of(self.subscriber.supi, len(self.config.plmn.mnc))

    def registration_request(self) -> RegistrationRequest:
        """With 5G-GUTI and ngKSI where there is a context to use, else with the SUCI."""
        if self.security is not None and self.guti is not None:
            return RegistrationRequest(identity=self.guti, ngksi=self.security.ngksi, capability=CAPABILITY)
        return RegistrationRequest(identity=self.suci, ngksi=NO_KSI, capability=CAPABILITY)

    def challenged(self, rand: bytes, autn: bytes, abba: bytes, ngksi: int) -> bytes:
        """RES*; K_AMF waits as candidate. Raises AkaError."""
        answer = self.usim.answer(rand, autn, self.snn)
        k_amf = Secret(keys.k_amf(answer.k_seaf, self.subscriber.supi, abba))
        self.events.register_secret(k_amf)
        self.candidate = Candidate(k_amf, ngksi)
        return answer.res_star

    def context_of(self, command: SecurityModeCommand) -> NasSecurityContext | None:
        """The context that a SECURITY MODE COMMAND means, new when it takes the candidate into use."""
        if self.candidate is not None and self.candidate.ngksi == command.ngksi:
            k_amf = self.candidate.k_amf.reveal()
        elif self.security is not None and self.security.ngksi == command.ngksi:
            k_amf = self.security.k_amf
        else:
            return None
        return NasSecurityContext(
            k_amf, command.ngksi, Role.UE, ciphering=command.ciphering, integrity=command.integrity
        )

    def take(self, security: NasSecurityContext) -> None:
        """The context is in use from now on, on every access."""
        if self.candidate is not None and self.candidate.k_amf.reveal() == security.k_amf:
            self._secret, self.candidate = self.candidate.k_amf, None
        self.security = security
        self._write_keys(security)

    def forget(self) -> None:
        """The network does not know us, or does not want us: the next registration starts with the SUCI."""
        self.guti = self.security = self.candidate = self._secret = None

    def _write_keys(self, security: NasSecurityContext) -> None:
        path = self.config.nas_keys
        if path is None:
            return
        line = {
            "ue": self.subscriber.supi,
            "k_nas_enc": keys.nas_key(security.k_amf, keys.NAS_ENCRYPTION, security.ciphering).hex(),
            "k_nas_int": keys.nas_key(security.k_amf, keys.NAS_INTEGRITY, security.integrity).hex(),
        }
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")
