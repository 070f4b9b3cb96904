/* A stand-in for Fwpuclnt.dll: the six functions of the Winsock Secure Socket Extensions, which check what they are
 * handed and answer with results and with each error.
 *
 * It keeps for each socket what the documentation says the system keeps: settings once, names, nothing after connect.
 * It protects nothing.  The other functions are the test's:
 *   StandInReset()                  forgets sockets, calls and answers
 *   StandInFail(error)              the next call fails with this code (0: none does)
 *   StandInAnswer(bytes, length)    what a query answers from now on
 *   StandInTold(bytes, room)        the structure that the last call was handed; how long it was
 *   StandInCalls()                  how many calls were made; each with Overlapped or a routine counts as 1000
 *   StandInImpersonating()          whether the calling thread acts as a peer
 */
#define WINSOCK_API_LINKAGE /* these functions are ours, not imported */
#define _WIN32_WINNT 0x0A00
#define NTDDI_VERSION 0x0A000000
#include <winsock2.h>
#include <mstcpip.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <string.h>

#define EXPORT __declspec(dllexport)
#define MOST_SOCKETS 256
#define ROOM 4096
#define PROTOCOL_IPSEC2 2
#define FIXED_SETTINGS_IPSEC 84
#define FIXED_NAME 140
#define TEMPLATE_IPSEC2 152

static CRITICAL_SECTION guard;
static SOCKET secured[MOST_SOCKETS];
static int secured_count;
static int next_error;
static unsigned char answer[ROOM];
static ULONG answer_length;
static unsigned char told[ROOM];
static ULONG told_length;
static int calls;
static __thread int impersonating;

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, LPVOID reserved) {
    (void)self;
    (void)reserved;
    if (reason == DLL_PROCESS_ATTACH) {
        InitializeCriticalSection(&guard);
        /* until told otherwise: IPSEC2, secured and encrypted, SA ids 0x11 and 0x22 */
        answer[0] = PROTOCOL_IPSEC2;
        answer[4] = SOCKET_INFO_CONNECTION_SECURED | SOCKET_INFO_CONNECTION_ENCRYPTED;
        answer[24] = 0x11;
        answer[32] = 0x22;
        answer_length = 64;
    }
    return TRUE;
}

static int fail(int error) {
    WSASetLastError(error);
    return SOCKET_ERROR;
}

static void note(const void *bytes, ULONG length) {
    told_length = bytes ? length : 0;
    if (bytes)
        memcpy(told, bytes, length < ROOM ? length : ROOM);
}

/* What is wrong with the socket: 0, or a code.  Counts the call. */
static int judge_socket(SOCKET sock, const void *overlapped, const void *routine, int *type) {
    WSAPROTOCOL_INFOW info;
    int length = sizeof info;
    calls += overlapped || routine ? 1000 : 1;
    if (next_error) {
        int error = next_error;
        next_error = 0;
        return error;
    }
    if (getsockopt(sock, SOL_SOCKET, SO_PROTOCOL_INFOW, (char *)&info, &length))
        return WSAENOTSOCK;
    if (info.iAddressFamily != AF_INET && info.iAddressFamily != AF_INET6)
        return WSAEAFNOSUPPORT;
    if (info.iSocketType != SOCK_STREAM && info.iSocketType != SOCK_DGRAM)
        return WSAEINVAL;
    *type = info.iSocketType;
    return 0;
}

static int is_connected(SOCKET sock) {
    SOCKADDR_STORAGE peer;
    int length = sizeof peer;
    return !getpeername(sock, (struct sockaddr *)&peer, &length);
}

static int is_bound(SOCKET sock) {
    SOCKADDR_STORAGE name;
    int length = sizeof name;
    return !getsockname(sock, (struct sockaddr *)&name, &length) && ((SOCKADDR_IN *)&name)->sin_port;
}

static int is_secured(SOCKET sock) {
    for (int i = 0; i < secured_count; i++)
        if (secured[i] == sock)
            return 1;
    return 0;
}

static int judge_settings(const SOCKET_SECURITY_SETTINGS *settings, ULONG length) {
    if (!settings)
        return length ? WSAEFAULT : 0;
    if (length < sizeof *settings)
        return WSAEMSGSIZE;
    if (settings->SecurityProtocol > PROTOCOL_IPSEC2)
        return WSAEINVAL;
    if (length == sizeof *settings)
        return 0;
    const SOCKET_SECURITY_SETTINGS_IPSEC *ipsec = (const void *)settings;
    if (ipsec->SecurityProtocol == SOCKET_SECURITY_PROTOCOL_DEFAULT)
        return WSAEINVAL;
    if (length < FIXED_SETTINGS_IPSEC)
        return WSAEMSGSIZE;
    ULONGLONG strings =
        (ULONGLONG)ipsec->UserNameStringLen + ipsec->DomainNameStringLen + ipsec->PasswordStringLen;
    return strings % 2 || strings > length - FIXED_SETTINGS_IPSEC ? WSAEINVAL : 0;
}

EXPORT INT WSAAPI WSASetSocketSecurity(SOCKET sock, const SOCKET_SECURITY_SETTINGS *settings, ULONG length,
                                       LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine) {
    int type, error;
    EnterCriticalSection(&guard);
    note(settings, length);
    error = judge_socket(sock, overlapped, (void *)routine, &type);
    if (!error && is_connected(sock))
        error = WSAEISCONN;
    if (!error)
        error = judge_settings(settings, length);
    if (!error && (is_secured(sock) || is_bound(sock) || secured_count == MOST_SOCKETS))
        error = WSAEINVAL;
    if (!error)
        secured[secured_count++] = sock;
    LeaveCriticalSection(&guard);
    return error ? fail(error) : 0;
}

EXPORT INT WSAAPI WSAQuerySocketSecurity(SOCKET sock, const SOCKET_SECURITY_QUERY_TEMPLATE *template,
                                         ULONG template_length, SOCKET_SECURITY_QUERY_INFO *info, ULONG *info_length,
                                         LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine) {
    int type = 0, error;
    EnterCriticalSection(&guard);
    note(template, template_length);
    error = judge_socket(sock, overlapped, (void *)routine, &type);
    if (!error && !info_length)
        error = WSAEFAULT;
    if (!error && type != SOCK_STREAM && (!template || template_length < sizeof *template))
        error = WSAEMSGSIZE;
    if (!error && template && template_length < sizeof *template)
        error = WSAEMSGSIZE;
    ULONG needed = template && template_length >= TEMPLATE_IPSEC2 ? answer_length : sizeof *info;
    if (!error && needed > answer_length)
        needed = answer_length;
    if (!error && (!info || *info_length < needed)) {
        error = info || template ? WSAEMSGSIZE : WSAEFAULT;
        *info_length = needed;
    }
    if (!error) {
        memcpy(info, answer, needed);
        *info_length = needed;
        if (!template || !template->PeerTokenAccessMask)
            info->PeerApplicationAccessTokenHandle = info->PeerMachineAccessTokenHandle = 0;
        else {
            /* the token of this process stands for the peer's */
            HANDLE machine = NULL;
            OpenProcessToken(GetCurrentProcess(), template->PeerTokenAccessMask, &machine);
            info->PeerMachineAccessTokenHandle = (UINT64)(ULONG_PTR)machine;
            info->PeerApplicationAccessTokenHandle = 0;
        }
    }
    LeaveCriticalSection(&guard);
    return error ? fail(error) : 0;
}

EXPORT INT WSAAPI WSASetSocketPeerTargetName(SOCKET sock, const SOCKET_PEER_TARGET_NAME *name, ULONG length,
                                             LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine) {
    int type = 0, error;
    EnterCriticalSection(&guard);
    note(name, length);
    error = judge_socket(sock, overlapped, (void *)routine, &type);
    if (!error && !name)
        error = WSAEFAULT;
    if (!error && length < FIXED_NAME)
        error = WSAEMSGSIZE;
    if (!error && is_connected(sock))
        error = WSAEISCONN;
    if (!error) {
        ULONGLONG unit = name->SecurityProtocol == PROTOCOL_IPSEC2 ? 1 : 2;
        if (name->SecurityProtocol > PROTOCOL_IPSEC2 || unit * name->PeerTargetNameStringLen > length - FIXED_NAME)
            error = WSAEINVAL;
        if (type == SOCK_DGRAM && !((const SOCKADDR_IN *)&name->PeerAddress)->sin_port)
            error = WSAEINVAL;
    }
    LeaveCriticalSection(&guard);
    return error ? fail(error) : 0;
}

EXPORT INT WSAAPI WSADeleteSocketPeerTargetName(SOCKET sock, const struct sockaddr *peer, ULONG length,
                                                LPWSAOVERLAPPED overlapped,
                                                LPWSAOVERLAPPED_COMPLETION_ROUTINE routine) {
    int type = 0, error;
    EnterCriticalSection(&guard);
    note(peer, length);
    error = judge_socket(sock, overlapped, (void *)routine, &type);
    if (!error && !peer)
        error = WSAEFAULT;
    if (!error && length < sizeof(SOCKADDR_IN))
        error = WSAEMSGSIZE;
    if (!error && peer->sa_family != AF_INET && peer->sa_family != AF_INET6)
        error = WSAEAFNOSUPPORT;
    LeaveCriticalSection(&guard);
    return error ? fail(error) : 0;
}

EXPORT INT WSAAPI WSAImpersonateSocketPeer(SOCKET sock, const struct sockaddr *peer, ULONG length) {
    int type = 0, error;
    EnterCriticalSection(&guard);
    note(peer, length);
    error = judge_socket(sock, NULL, NULL, &type);
    if (!error && type == SOCK_DGRAM && !peer)
        error = WSAEFAULT;
    if (!error && type == SOCK_DGRAM && length < sizeof(SOCKADDR_IN))
        error = WSAEMSGSIZE;
    LeaveCriticalSection(&guard);
    if (error)
        return fail(error);
    if (!ImpersonateSelf(SecurityImpersonation))
        return fail(WSASYSCALLFAILURE);
    impersonating = 1;
    return 0;
}

EXPORT INT WSAAPI WSARevertImpersonation(void) {
    EnterCriticalSection(&guard);
    calls++;
    int error = next_error;
    next_error = 0;
    LeaveCriticalSection(&guard);
    if (error)
        return fail(error);
    if (impersonating && !RevertToSelf())
        return fail(WSASYSCALLFAILURE);
    impersonating = 0;
    return 0;
}

EXPORT void StandInReset(void) {
    secured_count = calls = next_error = 0;
    answer_length = told_length = 0;
}

EXPORT void StandInFail(int error) { next_error = error; }

EXPORT void StandInAnswer(const unsigned char *bytes, ULONG length) {
    answer_length = length < ROOM ? length : ROOM;
    memcpy(answer, bytes, answer_length);
}

EXPORT ULONG StandInTold(unsigned char *bytes, ULONG room) {
    memcpy(bytes, told, told_length < room ? told_length : room);
    return told_length;
}

EXPORT int StandInCalls(void) { return calls; }

EXPORT int StandInImpersonating(void) { return impersonating; }
