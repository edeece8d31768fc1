#include "netlink_socket.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef NETLINK_EXT_ACK
#define NETLINK_EXT_ACK 11
#endif
#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif

namespace {

void Configure(int fd, int receive_bytes) {
  int on = 1;
  // Each option is an improvement where the kernel has it, none is needed.
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof on);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_bytes, sizeof receive_bytes) != 0) {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
  }
}

}  // namespace

int OpenNetlinkSocket(int protocol, int receive_bytes) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  struct sockaddr_nl any = {};
  any.nl_family = AF_NETLINK;
  if (fd >= 0 && bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any) != 0) {
    int error = errno;
    close(fd);
    errno = error;
    return -1;
  }
  if (fd >= 0) Configure(fd, receive_bytes);
  return fd;
}

napi_value Throw(napi_env env, const char* code, const char* message) {
  napi_throw_error(env, code, message);
  return nullptr;
}

napi_value ThrowErrno(napi_env env, int error, const char* message) {
  char code[32];
  snprintf(code, sizeof code, "errno %d", error);
  return Throw(env, code, message);
}

void* ReadExternal(napi_env env, napi_callback_info info, const char* usage) {
  size_t count = 1;
  napi_value argument;
  void* data = nullptr;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  if (count < 1 || napi_get_value_external(env, argument, &data) != napi_ok) {
    Throw(env, "ERR_INVALID_ARG_TYPE", usage);
    return nullptr;
  }
  return data;
}
