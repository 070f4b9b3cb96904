"""EAP-MSCHAPv2, both ends (draft-kamath-pppext-eap-mschapv2, RFC 2759, RFC 3079): user and server show each other that
both know the user's password.

Only inside a tunnel to a machine that was proven by other means: its messages give an eavesdropper the password's hash
for some hours of DES.  One try a negotiation: a wrong password ends it (R=0), and an unknown user is told exactly what
a wrong password is, after the same work.
"""

from __future__ import annotations

import hmac
from typing import Final

from ...crypto.mschap import (
    NT_HASH_LENGTH,
    authenticator_response,
    challenge_hash,
    master_session_key,
    nt_hash,
    nt_response,
    require_eap_extra,
)
from ...entropy import Entropy
from ...errors import AuthenticationFailed, PeerMisbehaved, WireError
from ...identity.names import printable
from ...identity.users import UserName, Users, read_user_name_untrusted
from ...secret import Secret
from ...types import Principal
from ...wire.eap import (
    EapType,
    MsChapChallenge,
    MsChapFailure,
    MsChapResponse,
    MsChapSuccess,
    parse_mschap_untrusted,
    write_mschap,
)
from .exchange import ProvenServer, ProvenUser, UserNotProven

__all__ = ["PasswordPeer", "PasswordServer"]

CHALLENGE_LENGTH: Final = 16
AUTHENTICATION_FAILURE: Final = 691  # RFC 2759 6: of all reasons the one that tells least
_NOBODYS_HASH: Final = Secret(bytes(NT_HASH_LENGTH))
"""What an unknown user's response is held against, for the work's sake; it proves nobody, even if it fits."""


def _without_domain(name: bytes) -> bytes:
    """RFC 2759 4: the name that is hashed has no Windows domain before it."""
    return name.rpartition(b"\\")[2]


class PasswordServer:
    """Challenges a user of ``users``; ``our_name`` is how we call ourselves (RFC 2759 3)."""

    eap_type: Final = EapType.MSCHAPV2

    def __init__(self, users: Users, our_name: bytes, entropy: Entropy) -> None:
        self._users = users
        self._our_name = our_name
        self._challenge = entropy.token(CHALLENGE_LENGTH)
        # RFC 2759 6: a failure brings a challenge for the next try, which there is none
        self._next_challenge = entropy.token(CHALLENGE_LENGTH)
        self._chap_id = 0
        self._proven: ProvenUser | None = None
        self._failed: UserNotProven | None = None

    @property
    def refused(self) -> bool:
        """Whether the password was wrong."""
        return self._failed is not None

    def begin(self, claimed: UserName | None, identifier: int) -> bytes:
        """The challenge, the same for everybody."""
        self._chap_id = identifier
        return write_mschap(identifier, MsChapChallenge(self._challenge, self._our_name), is_request=True)

    def answer(self, data: bytes, identifier: int) -> bytes | ProvenUser:
        """The user's response, then its word on our success or failure."""
        chap_id, value = parse_mschap_untrusted(data, is_request=False)
        if self._failed is not None:
            raise self._failed  # whatever it answered: it is over
        match value:
            case MsChapSuccess() if self._proven is not None:
                return self._proven
            case MsChapResponse() if self._proven is None and chap_id == self._chap_id:
                return self._judge(value)
        raise UserNotProven("the user's MSCHAPv2 is out of order")

    def _judge(self, response: MsChapResponse) -> bytes:
        try:
            user = read_user_name_untrusted(response.name)
        except WireError:
            user = None
        known = None if user is None else self._users.password_hash(user)
        password_hash = (known or _NOBODYS_HASH).reveal()
        challenge = challenge_hash(response.peer_challenge, self._challenge, _without_domain(response.name))
        expected = nt_response(challenge, password_hash)
        proof = authenticator_response(password_hash, response.nt_response, challenge)
        msk = Secret(master_session_key(password_hash, response.nt_response))
        if not hmac.compare_digest(expected, response.nt_response) or known is None or user is None:
            shown = printable(response.name.decode("utf-8", "replace"))
            self._failed = UserNotProven(f"the user {shown} is unknown here, or gave a wrong password", reason="user")
            failure = MsChapFailure(AUTHENTICATION_FAILURE, challenge=self._next_challenge)
            return write_mschap(self._chap_id, failure, is_request=True)
        self._proven = ProvenUser(Principal(user.principal, "user", "eap"), "password", msk)
        return write_mschap(self._chap_id, MsChapSuccess(proof, b"OK"), is_request=True)


class PasswordPeer:
    """Proves ``user`` by ``password``, which is wiped with this object's own copy."""

    eap_type: Final = EapType.MSCHAPV2

    def __init__(self, user: UserName, password: Secret, entropy: Entropy) -> None:
        require_eap_extra()
        self._name = user.principal.encode()
        self._hash = Secret(nt_hash(password.reveal()))
        self._peer_challenge = entropy.token(CHALLENGE_LENGTH)
        self._challenge = b""
        self._response = b""
        self._server_knows = False
        self._refused = False

    def respond(self, data: bytes) -> bytes:
        """To a challenge the proof, to success and failure the acknowledgement."""
        chap_id, value = parse_mschap_untrusted(data, is_request=True)
        match value:
            case MsChapChallenge() if not self._response:
                return self._prove(chap_id, value)
            case MsChapSuccess() if self._response and not self._refused:
                self._check(value)
                return write_mschap(chap_id, value, is_request=False)
            case MsChapFailure() if self._response:
                self._refused = True  # our own user's word for it comes with EAP-Failure; we try once
                return write_mschap(chap_id, value, is_request=False)
        raise PeerMisbehaved("the responder's MSCHAPv2 is out of order")

    def _prove(self, chap_id: int, asked: MsChapChallenge) -> bytes:
        self._challenge = challenge_hash(self._peer_challenge, asked.challenge, _without_domain(self._name))
        self._response = nt_response(self._challenge, self._hash.reveal())
        return write_mschap(chap_id, MsChapResponse(self._peer_challenge, self._response, self._name), is_request=False)

    def _check(self, success: MsChapSuccess) -> None:
        expected = authenticator_response(self._hash.reveal(), self._response, self._challenge)
        if not hmac.compare_digest(expected, success.authenticator_response):
            raise AuthenticationFailed(
                "the responder accepted the password without knowing it: it is not whom the user has an account with"
            )
        self._server_knows = True

    def succeed(self) -> Secret:
        """The MSK, once the server has shown that it knows the password."""
        if not self._server_knows:
            raise AuthenticationFailed("the responder says that the user is proven before it has shown to know why")
        return Secret(master_session_key(self._hash.reveal(), self._response))

    def fail(self) -> AuthenticationFailed:
        """Name or password is wrong; which of them nobody tells."""
        return AuthenticationFailed(
            f"the responder did not accept the user {self._name.decode()}: the name is unknown there or the password "
            "is wrong (it does not say which)",
            reason="user",
        )

    def wipe(self) -> None:
        """The password's hash."""
        self._hash.wipe()

    def proven_server(self) -> ProvenServer | None:
        """A server that knows the password is no machine with a name."""
        return None
