// A netlink socket that listens for the notifications of multicast groups, read by a thread of its own.

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <thread>
#include <vector>

#include "addon.h"
#include "netlink_socket.h"

namespace {

struct Listener {
  int fd = -1;
  int stop = -1;  // an eventfd: written to end the thread
  napi_env env = nullptr;
  napi_threadsafe_function heard = nullptr;
  std::thread thread;
};

struct Heard {
  int error = 0;
  std::vector<uint8_t> datagrams;
};

// What waits for the event loop is bounded; the rest stays in the socket, which then overflows and says so.
constexpr size_t kHeardQueue = 16;
constexpr int kQueueFullMs = 10;

// Takes everything that is there now, up to a limit. An overflow (ENOBUFS) is an error like any other.
void Drain(int fd, std::vector<uint8_t>& buffer, Heard* heard) {
  while (heard->datagrams.size() < kReceiveBytes) {
    struct sockaddr_nl from = {};
    socklen_t from_length = sizeof from;
    ssize_t length = recvfrom(fd, buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC,
                              reinterpret_cast<sockaddr*>(&from), &from_length);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EAGAIN) return;
    if (length < 0 || static_cast<size_t>(length) > buffer.size()) {
      heard->error = length < 0 ? errno : EMSGSIZE;
      return;
    }
    if (from.nl_pid != 0) continue;  // not from the kernel
    heard->datagrams.insert(heard->datagrams.end(), buffer.data(), buffer.data() + length);
    heard->datagrams.resize(NLMSG_ALIGN(heard->datagrams.size()));
  }
}

// Waits for messages, or where `fd` is -1 for some milliseconds; false when the thread is to end.
bool Wait(const Listener* listener, int fd, int timeout_ms) {
  struct pollfd ready[] = {{fd, POLLIN, 0}, {listener->stop, POLLIN, 0}};
  while (poll(ready, 2, timeout_ms) < 0) {
    if (errno != EINTR) return false;
  }
  return ready[1].revents == 0;
}

void ListenUntilStopped(Listener* listener) {
  std::vector<uint8_t> buffer(kReceiveBytes);
  bool goes_on = true;
  while (goes_on && Wait(listener, listener->fd, -1)) {
    auto heard = new Heard;
    Drain(listener->fd, buffer, heard);
    napi_status status;
    do {
      status = napi_call_threadsafe_function(listener->heard, heard, napi_tsfn_nonblocking);
      goes_on = status == napi_ok || (status == napi_queue_full && Wait(listener, -1, kQueueFullMs));
    } while (goes_on && status == napi_queue_full);
    if (status != napi_ok) delete heard;
    if (status == napi_closing) return;
  }
  napi_release_threadsafe_function(listener->heard, napi_tsfn_release);
}

// Runs on the event loop: heard(messages, errno).
void CallHeard(napi_env env, napi_value callback, void*, void* data) {
  std::unique_ptr<Heard> heard(static_cast<Heard*>(data));
  if (env == nullptr) return;
  napi_value receiver, arguments[2];
  napi_get_undefined(env, &receiver);
  napi_create_buffer_copy(env, heard->datagrams.size(), heard->datagrams.data(), nullptr, &arguments[0]);
  napi_create_int32(env, heard->error, &arguments[1]);
  napi_call_function(env, receiver, callback, 2, arguments, nullptr);
}

// Ends the thread and waits for it, which never waits for the event loop. Also runs before the environment ends.
void StopListening(void* data) {
  auto listener = static_cast<Listener*>(data);
  if (!listener->thread.joinable()) return;
  uint64_t one = 1;
  while (write(listener->stop, &one, sizeof one) < 0 && errno == EINTR) {}
  listener->thread.join();
  napi_remove_env_cleanup_hook(listener->env, StopListening, listener);
}

void DeleteListener(Listener* listener) {
  StopListening(listener);
  if (listener->fd >= 0) close(listener->fd);
  if (listener->stop >= 0) close(listener->stop);
  delete listener;
}

bool Join(int fd, const std::vector<uint32_t>& groups) {
  for (uint32_t group : groups) {
    if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) return false;
  }
  return true;
}

bool ReadGroups(napi_env env, napi_value array, std::vector<uint32_t>* groups) {
  uint32_t length = 0;
  if (napi_get_array_length(env, array, &length) != napi_ok) return false;
  groups->resize(length);
  for (uint32_t i = 0; i < length; i++) {
    napi_value group;
    napi_get_element(env, array, i, &group);
    if (napi_get_value_uint32(env, group, &(*groups)[i]) != napi_ok) return false;
  }
  return true;
}

}  // namespace

// listen(protocol, groups, receiveBytes, heard): listener. Throws with code "errno <n>".
napi_value Listen(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value arguments[4], handle, name;
  int32_t protocol, receive_bytes;
  std::vector<uint32_t> groups;
  napi_valuetype type = napi_undefined;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  if (count < 4 || napi_get_value_int32(env, arguments[0], &protocol) != napi_ok ||
      !ReadGroups(env, arguments[1], &groups) ||
      napi_get_value_int32(env, arguments[2], &receive_bytes) != napi_ok ||
      napi_typeof(env, arguments[3], &type) != napi_ok || type != napi_function) {
    return Throw(env, "ERR_INVALID_ARG_TYPE",
                 "listen(protocol, groups, receiveBytes, heard) takes a number, numbers, a number and a function");
  }
  auto listener = new Listener;
  listener->env = env;
  listener->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  listener->fd = listener->stop < 0 ? -1 : OpenNetlinkSocket(protocol, receive_bytes);
  if (listener->fd < 0 || !Join(listener->fd, groups)) {
    int error = errno;
    DeleteListener(listener);
    return ThrowErrno(env, error, "Cannot listen on a netlink socket");
  }
  napi_create_string_utf8(env, "netlink listener", NAPI_AUTO_LENGTH, &name);
  napi_create_threadsafe_function(env, arguments[3], nullptr, name, kHeardQueue, 1, nullptr, nullptr, nullptr,
                                  CallHeard, &listener->heard);
  napi_unref_threadsafe_function(env, listener->heard);  // it does not keep the process alive
  napi_add_env_cleanup_hook(env, StopListening, listener);
  listener->thread = std::thread(ListenUntilStopped, listener);
  auto finalize = [](napi_env, void* data, void*) { DeleteListener(static_cast<Listener*>(data)); };
  napi_create_external(env, listener, finalize, nullptr, &handle);
  return handle;
}

// stop(listener): what the event loop has been handed is still heard, nothing more. Twice is harmless.
napi_value Stop(napi_env env, napi_callback_info info) {
  void* listener = ReadExternal(env, info, "stop(listener) takes a listener");
  if (listener != nullptr) StopListening(listener);
  return nullptr;
}
