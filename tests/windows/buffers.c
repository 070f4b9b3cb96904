/* Reads the Winsock structures that Python packed and prints every field, and packs the same for Python to read.
 *
 *   buffers print NAME < bytes     one line "field value" for each field, numbers in decimal, the rest in hexadecimal
 *   buffers pack NAME > bytes      fixed values, which the test knows too
 *
 * The structures are those of mingw-w64's mstcpip.h; the IPSEC2 forms, which it lacks, are declared in the order of the
 * SDK's header.
 */
#define _WIN32_WINNT 0x0A00
#define NTDDI_VERSION 0x0A000000
#include <winsock2.h>
#include <mstcpip.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <fcntl.h>
#include <io.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    SOCKET_SECURITY_PROTOCOL SecurityProtocol;
    SOCKADDR_STORAGE PeerAddress;
    ULONG PeerTokenAccessMask;
    ULONG Flags;
    ULONG FieldMask;
} QUERY_TEMPLATE_IPSEC2;

typedef struct {
    SOCKET_SECURITY_PROTOCOL SecurityProtocol;
    ULONG Flags;
    UINT64 PeerApplicationAccessTokenHandle;
    UINT64 PeerMachineAccessTokenHandle;
    UINT64 MmSaId;
    UINT64 QmSaId;
    UINT32 NegotiationWinerr;
    GUID SaLookupContext;
} QUERY_INFO_IPSEC2;

#define ROOM 4096
#define PROTOCOL_IPSEC2 2 /* SOCKET_SECURITY_PROTOCOL_IPSEC2 of Windows 7 */

static _Alignas(16) unsigned char buffer[ROOM];

static void number(const char *name, unsigned long long value) { printf("%s %llu\n", name, value); }

static void bytes(const char *name, const void *data, size_t length) {
    const unsigned char *each = data;
    printf("%s ", name);
    while (length--)
        printf("%02x", *each++);
    printf("\n");
}

static void address(const SOCKADDR_STORAGE *storage) {
    number("family", storage->ss_family);
    if (storage->ss_family == AF_INET) {
        const SOCKADDR_IN *in = (const SOCKADDR_IN *)storage;
        number("port", ntohs(in->sin_port));
        bytes("host", &in->sin_addr, sizeof in->sin_addr);
    } else if (storage->ss_family == AF_INET6) {
        const SOCKADDR_IN6 *in6 = (const SOCKADDR_IN6 *)storage;
        number("port", ntohs(in6->sin6_port));
        bytes("host", &in6->sin6_addr, sizeof in6->sin6_addr);
        number("flowinfo", ntohl(in6->sin6_flowinfo));
        number("scope", in6->sin6_scope_id);
    }
}

static void set_address(SOCKADDR_STORAGE *storage) {
    SOCKADDR_IN6 *in6 = (SOCKADDR_IN6 *)storage;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(27015);
    in6->sin6_flowinfo = htonl(7);
    in6->sin6_addr.s6_addr[0] = 0x20;
    in6->sin6_addr.s6_addr[1] = 0x01;
    in6->sin6_addr.s6_addr[2] = 0x0d;
    in6->sin6_addr.s6_addr[3] = 0xb8;
    in6->sin6_addr.s6_addr[15] = 0x2a;
    in6->sin6_scope_id = 3;
}

static void set_guid(GUID *guid, unsigned long first) {
    GUID value = {first, 0x1234, 0x5678, {1, 2, 3, 4, 5, 6, 7, 8}};
    *guid = value;
}

static int print(const char *name) {
    if (!strcmp(name, "SOCKET_SECURITY_SETTINGS")) {
        const SOCKET_SECURITY_SETTINGS *it = (void *)buffer;
        number("SecurityProtocol", it->SecurityProtocol);
        number("SecurityFlags", it->SecurityFlags);
    } else if (!strcmp(name, "SOCKET_SECURITY_SETTINGS_IPSEC")) {
        const SOCKET_SECURITY_SETTINGS_IPSEC *it = (void *)buffer;
        const char *strings = (const char *)it->AllStrings;
        number("SecurityProtocol", it->SecurityProtocol);
        number("SecurityFlags", it->SecurityFlags);
        number("IpsecFlags", it->IpsecFlags);
        bytes("AuthipMMPolicyKey", &it->AuthipMMPolicyKey, sizeof(GUID));
        bytes("AuthipQMPolicyKey", &it->AuthipQMPolicyKey, sizeof(GUID));
        bytes("Reserved", &it->Reserved, sizeof(GUID));
        number("Reserved2", it->Reserved2);
        bytes("UserName", strings, it->UserNameStringLen);
        bytes("DomainName", strings + it->UserNameStringLen, it->DomainNameStringLen);
        bytes("Password", strings + it->UserNameStringLen + it->DomainNameStringLen, it->PasswordStringLen);
    } else if (!strcmp(name, "SOCKET_PEER_TARGET_NAME")) {
        const SOCKET_PEER_TARGET_NAME *it = (void *)buffer;
        ULONG unit = it->SecurityProtocol == PROTOCOL_IPSEC2 ? 1 : 2;
        number("SecurityProtocol", it->SecurityProtocol);
        address(&it->PeerAddress);
        bytes("PeerTargetName", it->AllStrings, it->PeerTargetNameStringLen * unit);
    } else if (!strcmp(name, "SOCKET_SECURITY_QUERY_TEMPLATE")) {
        const SOCKET_SECURITY_QUERY_TEMPLATE *it = (void *)buffer;
        number("SecurityProtocol", it->SecurityProtocol);
        address(&it->PeerAddress);
        number("PeerTokenAccessMask", it->PeerTokenAccessMask);
    } else if (!strcmp(name, "SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2")) {
        const QUERY_TEMPLATE_IPSEC2 *it = (void *)buffer;
        number("SecurityProtocol", it->SecurityProtocol);
        address(&it->PeerAddress);
        number("PeerTokenAccessMask", it->PeerTokenAccessMask);
        number("Flags", it->Flags);
        number("FieldMask", it->FieldMask);
    } else if (!strcmp(name, "SOCKET_SECURITY_QUERY_INFO")) {
        const SOCKET_SECURITY_QUERY_INFO *it = (void *)buffer;
        number("SecurityProtocol", it->SecurityProtocol);
        number("Flags", it->Flags);
        number("PeerApplicationAccessTokenHandle", it->PeerApplicationAccessTokenHandle);
        number("PeerMachineAccessTokenHandle", it->PeerMachineAccessTokenHandle);
    } else if (!strcmp(name, "SOCKET_SECURITY_QUERY_INFO_IPSEC2")) {
        const QUERY_INFO_IPSEC2 *it = (void *)buffer;
        number("SecurityProtocol", it->SecurityProtocol);
        number("Flags", it->Flags);
        number("PeerApplicationAccessTokenHandle", it->PeerApplicationAccessTokenHandle);
        number("PeerMachineAccessTokenHandle", it->PeerMachineAccessTokenHandle);
        number("MmSaId", it->MmSaId);
        number("QmSaId", it->QmSaId);
        number("NegotiationWinerr", it->NegotiationWinerr);
        bytes("SaLookupContext", &it->SaLookupContext, sizeof(GUID));
    } else {
        return 2;
    }
    return 0;
}

/* How many bytes of buffer were filled, 0 for an unknown name.  Callers on Windows hand in sizeof and the strings. */
static size_t pack(const char *name) {
    if (!strcmp(name, "SOCKET_SECURITY_SETTINGS")) {
        SOCKET_SECURITY_SETTINGS *it = (void *)buffer;
        it->SecurityProtocol = SOCKET_SECURITY_PROTOCOL_DEFAULT;
        it->SecurityFlags = SOCKET_SETTINGS_GUARANTEE_ENCRYPTION;
        return sizeof *it;
    }
    if (!strcmp(name, "SOCKET_SECURITY_SETTINGS_IPSEC")) {
        SOCKET_SECURITY_SETTINGS_IPSEC *it = (void *)buffer;
        const wchar_t user[] = L"alice", domain[] = L"EXAMPLE", password[] = L"p\u00e4ss";
        it->SecurityProtocol = SOCKET_SECURITY_PROTOCOL_IPSEC;
        it->SecurityFlags = SOCKET_SETTINGS_GUARANTEE_ENCRYPTION;
        it->IpsecFlags = SOCKET_SETTINGS_IPSEC_SKIP_FILTER_INSTANTIATION;
        set_guid(&it->AuthipMMPolicyKey, 0xaabbccdd);
        set_guid(&it->AuthipQMPolicyKey, 0x11223344);
        it->UserNameStringLen = sizeof user - sizeof(wchar_t);
        it->DomainNameStringLen = sizeof domain - sizeof(wchar_t);
        it->PasswordStringLen = sizeof password - sizeof(wchar_t);
        char *strings = (char *)it->AllStrings;
        memcpy(strings, user, it->UserNameStringLen);
        memcpy(strings + it->UserNameStringLen, domain, it->DomainNameStringLen);
        memcpy(strings + it->UserNameStringLen + it->DomainNameStringLen, password, it->PasswordStringLen);
        return sizeof *it + it->UserNameStringLen + it->DomainNameStringLen + it->PasswordStringLen;
    }
    if (!strcmp(name, "SOCKET_PEER_TARGET_NAME")) {
        SOCKET_PEER_TARGET_NAME *it = (void *)buffer;
        const wchar_t spn[] = L"host/db.example";
        it->SecurityProtocol = SOCKET_SECURITY_PROTOCOL_IPSEC;
        set_address(&it->PeerAddress);
        it->PeerTargetNameStringLen = wcslen(spn); /* characters, as both of Microsoft's samples have it */
        memcpy(it->AllStrings, spn, wcslen(spn) * sizeof(wchar_t));
        return sizeof *it + wcslen(spn) * sizeof(wchar_t);
    }
    if (!strcmp(name, "SOCKET_SECURITY_QUERY_TEMPLATE")) {
        SOCKET_SECURITY_QUERY_TEMPLATE *it = (void *)buffer;
        it->SecurityProtocol = SOCKET_SECURITY_PROTOCOL_IPSEC;
        set_address(&it->PeerAddress);
        it->PeerTokenAccessMask = TOKEN_QUERY | TOKEN_IMPERSONATE;
        return sizeof *it;
    }
    if (!strcmp(name, "SOCKET_SECURITY_QUERY_TEMPLATE_IPSEC2")) {
        QUERY_TEMPLATE_IPSEC2 *it = (void *)buffer;
        it->SecurityProtocol = PROTOCOL_IPSEC2;
        set_address(&it->PeerAddress);
        it->PeerTokenAccessMask = TOKEN_QUERY;
        it->Flags = 1;
        it->FieldMask = 3;
        return sizeof *it;
    }
    if (!strcmp(name, "SOCKET_SECURITY_QUERY_INFO")) {
        SOCKET_SECURITY_QUERY_INFO *it = (void *)buffer;
        it->SecurityProtocol = SOCKET_SECURITY_PROTOCOL_IPSEC;
        it->Flags = SOCKET_INFO_CONNECTION_SECURED | SOCKET_INFO_CONNECTION_ENCRYPTED;
        it->PeerApplicationAccessTokenHandle = 0x1122334455667788ull;
        it->PeerMachineAccessTokenHandle = 0x99;
        return sizeof *it;
    }
    if (!strcmp(name, "SOCKET_SECURITY_QUERY_INFO_IPSEC2")) {
        QUERY_INFO_IPSEC2 *it = (void *)buffer;
        it->SecurityProtocol = PROTOCOL_IPSEC2;
        it->Flags = SOCKET_INFO_CONNECTION_SECURED;
        it->PeerApplicationAccessTokenHandle = 0x1122334455667788ull;
        it->PeerMachineAccessTokenHandle = 0x99;
        it->MmSaId = 0xa1a2a3a4a5a6a7a8ull;
        it->QmSaId = 0xb1b2b3b4b5b6b7b8ull;
        it->NegotiationWinerr = ERROR_IPSEC_IKE_AUTH_FAIL;
        set_guid(&it->SaLookupContext, 0x55667788);
        return sizeof *it;
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count != 3)
        return 2;
    if (!strcmp(arguments[1], "print")) {
        _setmode(_fileno(stdin), _O_BINARY);
        fread(buffer, 1, ROOM, stdin);
        return print(arguments[2]);
    }
    _setmode(_fileno(stdout), _O_BINARY);
    size_t length = pack(arguments[2]);
    return !length || fwrite(buffer, 1, length, stdout) != length;
}
