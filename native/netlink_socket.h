// What sockets of both kinds have in common.
#pragma once

#include <node_api.h>
#include <stddef.h>

// Dumps arrive in datagrams of at most 32 kB, acknowledgements and notifications in small ones.
constexpr size_t kReceiveBytes = 128 * 1024;

// Opens a socket, bound to an address that the kernel chooses; -1, with errno, when it refuses.
int OpenNetlinkSocket(int protocol, int receive_bytes);

// Both return nullptr, as a function does that throws. The code of the second is "errno <n>".
napi_value Throw(napi_env env, const char* code, const char* message);
napi_value ThrowErrno(napi_env env, int error, const char* message);

// The data of the external that is the first argument; throws `usage`, and returns nullptr, where it is none.
void* ReadExternal(napi_env env, napi_callback_info info, const char* usage);
