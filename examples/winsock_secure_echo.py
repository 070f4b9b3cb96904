"""Microsoft's sample "securesocket" in Python: a TCP server that asks who its client is, and a client that names it.

    python examples/winsock_secure_echo.py server [-adv] [-v6] [-native] [-port N]
    python examples/winsock_secure_echo.py client [-adv] [-v6] [-native] [-port N] [-name NAME] SERVER

Each side uses its configured identity (examples/README.md).  -adv names a main and a quick mode policy of its own by
their keys: machines prove themselves by certificate, and the user by EAP with the password in SECURE_ECHO_PASSWORD,
until there is Kerberos.  -native has Windows itself protect the socket (docs/windows.md), under Windows' own policy.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import securesock as ss
from securesock import winsock as ws
from securesock.policy import ProviderContext
from securesock.policy.ipsec import (
    AuthenticationMethod,
    AuthTransform,
    CertificateAuthentication,
    CipherTransform,
    EapAuthentication,
    IkePolicy,
    IkeProposal,
    Proposal,
    SaLifetime,
    SaTransform,
    TransportPolicy,
)
from securesock.policy.ipsec_numbers import (
    AuthMethodType,
    AuthType,
    CipherType,
    ContextType,
    DhGroup,
    IkeCipher,
    IkeIntegrity,
    TransformType,
)
from securesock.winsock import fwpm

PORT = 27015  # the sample's
USER, DOMAIN = "alice", "example.org"
MAX_PATH = 260


def quick_mode(key: UUID) -> ProviderContext:
    """What AddCustomIPsecPolicy makes: AES-128 for an hour or 55 GB; AES-GCM, as SHA-1 is no longer sound."""
    transform = SaTransform(
        TransformType.ESP_AUTH_AND_CIPHER, AuthTransform(AuthType.AES_128, 3), CipherTransform(CipherType.AES_128, 6)
    )
    lifetime = SaLifetime(3600, 55 << 20, 0x7FFFFFFF)
    return ProviderContext(
        "secure echo quick mode",
        key=key,
        type=ContextType.IKEV2_QM_TRANSPORT,
        content=TransportPolicy((Proposal((transform,), lifetime),)),
    )


def main_mode(key: UUID) -> ProviderContext:
    """Machines by certificate, users by EAP."""
    return ProviderContext(
        "secure echo main mode",
        key=key,
        type=ContextType.IKEV2_MM,
        content=IkePolicy(
            methods=(
                AuthenticationMethod(AuthMethodType.CERTIFICATE, CertificateAuthentication()),
                AuthenticationMethod(AuthMethodType.EAP, EapAuthentication()),
            ),
            proposals=(
                IkeProposal(IkeCipher.AES_GCM_128_16ICV, IkeIntegrity.SHA_256, DhGroup.CURVE25519, max_lifetime_s=7200),
            ),
        ),
    )


@contextmanager
def custom_policy(engine: int) -> Iterator[tuple[UUID, UUID]]:
    """The keys of both, for as long as the program runs."""
    keys = uuid4(), uuid4()
    fwpm.FwpmTransactionBegin0(engine)
    fwpm.FwpmProviderContextAdd0(engine, main_mode(keys[0]))
    fwpm.FwpmProviderContextAdd0(engine, quick_mode(keys[1]))
    fwpm.FwpmTransactionCommit0(engine)
    try:
        yield keys
    finally:
        for key in keys:
            fwpm.FwpmProviderContextDeleteByKey0(engine, key)


def settings_of(
    arguments: argparse.Namespace, keys: tuple[UUID, UUID] | None
) -> ws.SOCKET_SECURITY_SETTINGS | ws.SOCKET_SECURITY_SETTINGS_IPSEC:
    """The sample's: basic, or with the keys of the policy; a client of that also has a user."""
    if keys is None:
        return ws.SOCKET_SECURITY_SETTINGS(ws.SOCKET_SECURITY_PROTOCOL_DEFAULT, ws.SOCKET_SETTINGS_GUARANTEE_ENCRYPTION)
    is_client = arguments.role == "client"
    return ws.SOCKET_SECURITY_SETTINGS_IPSEC(
        ws.SOCKET_SECURITY_PROTOCOL_IPSEC,
        ws.SOCKET_SETTINGS_GUARANTEE_ENCRYPTION,
        AuthipMMPolicyKey=keys[0],
        AuthipQMPolicyKey=keys[1],
        UserName=USER if is_client else "",
        DomainName=DOMAIN if is_client else "",
        Password=password() if is_client else "",
    )


def password() -> str:
    """The user's."""
    found = os.environ.get("SECURE_ECHO_PASSWORD", "")
    if not found:
        sys.exit(f"-adv proves the user {USER}@{DOMAIN}: set SECURE_ECHO_PASSWORD on both sides")
    return found


def context_of(arguments: argparse.Namespace) -> ss.SecurityContext:
    """This machine's identity, under this process's policy; a server of -adv knows the user."""
    identity = ss.default_context().identity
    if arguments.native:
        return ss.SecurityContext(identity, plane="windows")
    users = None
    if arguments.adv and arguments.role == "server":
        users = ss.Users({f"{USER}@{DOMAIN}": password()})
    return ss.SecurityContext(identity, policy=fwpm.local_engine(), users=users)


def show_security(sock: ss.SecureSocket, engine: int) -> None:
    """What protects the connection, and by which SAs (MatchIPsecSAsForConnection of the sample)."""
    template = ws.SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2(
        FieldMask=ws.SOCKET_QUERY_IPSEC2_FIELD_MASK_MM_SA_ID | ws.SOCKET_QUERY_IPSEC2_FIELD_MASK_QM_SA_ID
    )
    info = ws.WSAQuerySocketSecurity(sock, template)
    secured, encrypted = (
        "yes" if flag in info.Flags else "no"
        for flag in (ws.SOCKET_INFO_CONNECTION_SECURED, ws.SOCKET_INFO_CONNECTION_ENCRYPTED)
    )
    print(f"secured: {secured}, encrypted: {encrypted}")
    applied = sock.query_security()
    for kind, who in (("machine", applied.peer_machine), ("user", applied.peer_user)):
        if who is not None:
            print(f"peer {kind}: {who}")
    if not isinstance(info, ws.SOCKET_SECURITY_QUERY_INFO_IPSEC2):
        return
    print(f"main mode SA {info.MmSaId:#x}, quick mode SA {info.QmSaId:#x}")
    if applied.plane == "windows":
        return  # these SAs are the system's, and so is their enumeration
    main = fwpm.IkeextSaGetById1(engine, info.MmSaId, info.SaLookupContext)
    print(f"main mode: {main.ikeProposal.cipher.name}, {main.ikeProposal.dh_group.name}")
    for pair in main.ikeCredentials:
        print(f"the peer proved itself by {pair.peerCredentials.authenticationMethodType.name}")
    quick = fwpm.IPsecSaContextGetById1(engine, info.QmSaId).outboundSa.saBundle
    for sa in quick.saList:
        cipher = sa.transform and sa.transform.cipher
        print(f"quick mode: {sa.saTransformType.name}, {cipher.cipher_type.name if cipher else 'no cipher'}")


def serve(arguments: argparse.Namespace, engine: int, keys: tuple[UUID, UUID] | None) -> None:
    """Steps 3 to 11 of the sample's server."""
    family = socket.AF_INET6 if arguments.v6 else socket.AF_INET
    with ss.SecureSocket(family, socket.SOCK_STREAM, context=context_of(arguments)) as listener:
        ws.WSASetSocketSecurity(listener, settings_of(arguments, keys))
        listener.bind(("::" if arguments.v6 else "", arguments.port))
        listener.listen(10)
        plane = "windows" if arguments.native else "securesock"
        print(f"listening on port {listener.getsockname()[1]}, protected by {plane}", flush=True)
        while True:
            accepted, _ = listener.accept()
            with accepted:
                answer(accepted, engine)


def answer(accepted: ss.SecureSocket, engine: int) -> None:
    """One client: who it is, what it says, its account, and eleven bytes."""
    try:
        show_security(accepted, engine)
        print(f"received {accepted.recv(256).decode()}")
        try:
            ws.WSAImpersonateSocketPeer(accepted)
        except ws.WSAError as error:
            print(f"not impersonated: {error}")
        else:
            ws.WSARevertImpersonation()
            print("impersonated, and reverted")
        accepted.sendall(b"91011121314")
    except ss.PeerMisbehaved as error:
        print(f"broken: {error}")
    sys.stdout.flush()


def connect(arguments: argparse.Namespace, engine: int, keys: tuple[UUID, UUID] | None) -> None:
    """The sample's client."""
    if len(arguments.server) > MAX_PATH:
        sys.exit("the server's name is too long")
    family = socket.AF_INET6 if arguments.v6 else socket.AF_INET
    found = socket.getaddrinfo(arguments.server, arguments.port, family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    settings = settings_of(arguments, keys)
    name = ws.SOCKET_PEER_TARGET_NAME(ws.SOCKET_SECURITY_PROTOCOL_IPSEC, None, f"host/{arguments.name}")
    with ss.SecureSocket(family, socket.SOCK_STREAM, context=context_of(arguments)) as sock:
        ws.WSASetSocketSecurity(sock, settings)
        ws.WSASetSocketPeerTargetName(sock, name)
        try:
            sock.connect(found[0][4])
        except OSError as error:
            sys.exit(f"not connected: {error}")
        show_security(sock, engine)
        sock.sendall(b"12345678")
        received = b""
        while more := sock.recv(256):  # MSG_WAITALL: until the server closes
            received += more
        print(f"received {received.decode()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("server", nargs="?", default="", help="the client's: the server's DNS name or address")
    parser.add_argument("-adv", action="store_true")
    parser.add_argument("-v6", action="store_true")
    parser.add_argument("-native", action="store_true")
    parser.add_argument("-port", type=int, default=PORT)
    parser.add_argument("-name", help="the client's: whom to expect, if not SERVER itself")
    arguments = parser.parse_intermixed_args()  # SERVER comes last
    if (arguments.role == "client") != bool(arguments.server):
        parser.error("a client, and nobody else, names its server")
    arguments.name = arguments.name or arguments.server
    engine = fwpm.FwpmEngineOpen0(None, fwpm.RPC_C_AUTHN_WINNT, None, None)
    run = serve if arguments.role == "server" else connect
    if arguments.adv and not arguments.native:
        with custom_policy(engine) as keys:
            run(arguments, engine, keys)
    else:
        run(arguments, engine, None)
    fwpm.FwpmEngineClose0(engine)


if __name__ == "__main__":
    main()
