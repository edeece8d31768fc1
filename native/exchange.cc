// A netlink socket that exchanges a whole batch of messages with the kernel off the event loop.
//
// It knows message headers (lengths, sequence numbers, "done") and nothing else: no families, no
// attributes, no retries. Everything with a meaning lives in src/netlink.

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <vector>

#include "addon.h"
#include "netlink_socket.h"

namespace {

// The kernel refuses datagrams above the send buffer (212,992 bytes by default); past 60 kB nothing is gained.
constexpr size_t kSendBytes = 60 * 1024;

struct Socket {
  int fd = -1;
  bool busy = false;
  bool closing = false;
};

struct Exchange {
  Socket* socket;
  uint8_t* requests;
  size_t length;
  int64_t timeout_ms;       // the longest silence of the kernel
  int error = 0;            // errno of the step that failed, 0 when every answer is in
  const char* step = "";    // the step that failed
  uint32_t sent = 0;        // messages handed to the kernel
  std::vector<uint8_t> replies;
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  napi_ref socket_ref = nullptr;
  napi_ref requests_ref = nullptr;
};

int64_t NowMs() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

bool Fail(Exchange* exchange, const char* step, int error) {
  exchange->step = step;
  exchange->error = error;
  return false;
}

bool IsDump(const nlmsghdr* header) { return (header->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP; }

// A dump travels alone, since a socket has one dump at a time; other messages share a datagram.
size_t DatagramLength(const uint8_t* messages, size_t available, const nlmsghdr** last, uint32_t* count) {
  size_t length = 0;
  *count = 0;
  while (length + sizeof(nlmsghdr) <= available) {
    auto header = reinterpret_cast<const nlmsghdr*>(messages + length);
    size_t next = length + NLMSG_ALIGN(header->nlmsg_len);
    if (header->nlmsg_len < sizeof(nlmsghdr) || next > available) return 0;
    if (length > 0 && (next > kSendBytes || IsDump(header))) break;
    length = next;
    *last = header;
    ++*count;
    if (IsDump(header)) break;
  }
  return length;
}

bool Send(Exchange* exchange, const uint8_t* datagram, size_t length) {
  struct sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent;
  do {
    sent = sendto(exchange->socket->fd, datagram, length, 0, reinterpret_cast<sockaddr*>(&kernel), sizeof kernel);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(length) || Fail(exchange, "send", sent < 0 ? errno : EMSGSIZE);
}

// Keeps the messages that answer this datagram; sets *done at the answer to its last message.
bool Collect(Exchange* exchange, const uint8_t* data, size_t length, uint32_t first, uint32_t last, bool* done) {
  size_t offset = 0;
  while (offset + sizeof(nlmsghdr) <= length) {
    auto header = reinterpret_cast<const nlmsghdr*>(data + offset);
    if (header->nlmsg_len < sizeof(nlmsghdr) || offset + header->nlmsg_len > length) return Fail(exchange, "receive", EBADMSG);
    if (header->nlmsg_seq - first <= last - first) {
      exchange->replies.insert(exchange->replies.end(), data + offset, data + offset + header->nlmsg_len);
      exchange->replies.resize(NLMSG_ALIGN(exchange->replies.size()));
      bool ends = header->nlmsg_type == NLMSG_ERROR || header->nlmsg_type == NLMSG_DONE;
      if (ends && header->nlmsg_seq == last) *done = true;
    }
    offset += NLMSG_ALIGN(header->nlmsg_len);
  }
  return true;
}

// A table of any size may take its time, as long as the answers keep coming.
bool Receive(Exchange* exchange, uint8_t (&buffer)[kReceiveBytes], uint32_t first, uint32_t last) {
  int64_t deadline_ms = NowMs() + exchange->timeout_ms;
  for (bool done = false; !done;) {
    int64_t left = deadline_ms - NowMs();
    struct pollfd ready = {exchange->socket->fd, POLLIN, 0};
    int polled = left > 0 ? poll(&ready, 1, static_cast<int>(left)) : 0;
    if (polled < 0 && errno == EINTR) continue;
    if (polled < 0) return Fail(exchange, "poll", errno);
    if (polled == 0) return Fail(exchange, "receive", ETIMEDOUT);
    struct sockaddr_nl from = {};
    struct iovec io = {buffer, sizeof buffer};
    struct msghdr message = {};
    message.msg_name = &from;
    message.msg_namelen = sizeof from;
    message.msg_iov = &io;
    message.msg_iovlen = 1;
    ssize_t length = recvmsg(exchange->socket->fd, &message, MSG_DONTWAIT);
    if (length < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (length < 0) return Fail(exchange, "receive", errno);
    if (message.msg_flags & MSG_TRUNC) return Fail(exchange, "receive", EMSGSIZE);
    if (from.nl_pid != 0) continue;  // not from the kernel
    size_t known = exchange->replies.size();
    if (!Collect(exchange, buffer, length, first, last, &done)) return false;
    if (exchange->replies.size() > known) deadline_ms = NowMs() + exchange->timeout_ms;
  }
  return true;
}

// Runs on a worker thread. The kernel handles a datagram inside sendto(); only the last message of each
// asks for an acknowledgement, the others answer only when they fail.
void Run(napi_env, void* data) {
  auto exchange = static_cast<Exchange*>(data);
  // On the stack: from the heap it would be a mapping of its own, made, cleared and given back for every exchange.
  uint8_t buffer[kReceiveBytes];
  for (size_t offset = 0; offset < exchange->length;) {
    uint8_t* datagram = exchange->requests + offset;
    const nlmsghdr* last = nullptr;
    uint32_t count = 0;
    size_t length = DatagramLength(datagram, exchange->length - offset, &last, &count);
    if (length == 0) {
      Fail(exchange, "send", EBADMSG);
      return;
    }
    if (!IsDump(last)) const_cast<nlmsghdr*>(last)->nlmsg_flags |= NLM_F_ACK;
    uint32_t first = reinterpret_cast<const nlmsghdr*>(datagram)->nlmsg_seq;
    if (!Send(exchange, datagram, length)) return;
    exchange->sent += count;
    if (!Receive(exchange, buffer, first, last->nlmsg_seq)) return;
    offset += length;
  }
}

void CloseSocket(Socket* socket) {
  if (socket->fd >= 0) close(socket->fd);
  socket->fd = -1;
}

void SetNumber(napi_env env, napi_value object, const char* name, double number) {
  napi_value value;
  napi_create_double(env, number, &value);
  napi_set_named_property(env, object, name, value);
}

// Runs on the event loop again: { replies, errno, step, sent }.
void Finish(napi_env env, napi_status, void* data) {
  auto exchange = static_cast<Exchange*>(data);
  exchange->socket->busy = false;
  if (exchange->socket->closing) CloseSocket(exchange->socket);
  napi_value result, replies, step;
  napi_create_object(env, &result);
  napi_create_buffer_copy(env, exchange->replies.size(), exchange->replies.data(), nullptr, &replies);
  napi_create_string_utf8(env, exchange->step, NAPI_AUTO_LENGTH, &step);
  napi_set_named_property(env, result, "replies", replies);
  napi_set_named_property(env, result, "step", step);
  SetNumber(env, result, "errno", exchange->error);
  SetNumber(env, result, "sent", exchange->sent);
  napi_resolve_deferred(env, exchange->deferred, result);
  napi_delete_reference(env, exchange->socket_ref);
  napi_delete_reference(env, exchange->requests_ref);
  napi_delete_async_work(env, exchange->work);
  delete exchange;
}

}  // namespace

// open(protocol, receiveBytes): socket. Throws with code "errno <n>".
napi_value Open(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2], handle;
  int32_t protocol, receive_bytes;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  if (count < 2 || napi_get_value_int32(env, arguments[0], &protocol) != napi_ok ||
      napi_get_value_int32(env, arguments[1], &receive_bytes) != napi_ok) {
    return Throw(env, "ERR_INVALID_ARG_TYPE", "open(protocol, receiveBytes) takes two numbers");
  }
  int fd = OpenNetlinkSocket(protocol, receive_bytes);
  if (fd < 0) return ThrowErrno(env, errno, "Cannot open a netlink socket");
  auto opened = new Socket;
  opened->fd = fd;
  auto finalize = [](napi_env, void* data, void*) {
    CloseSocket(static_cast<Socket*>(data));
    delete static_cast<Socket*>(data);
  };
  napi_create_external(env, opened, finalize, nullptr, &handle);
  return handle;
}

// exchange(socket, requests, timeoutMs): Promise<{ replies, errno, step, sent }>. One at a time on a socket.
napi_value StartExchange(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value arguments[3], promise, name;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  void* socket = nullptr;
  void* requests = nullptr;
  size_t length = 0;
  int64_t timeout_ms;
  if (count < 3 || napi_get_value_external(env, arguments[0], &socket) != napi_ok ||
      napi_get_buffer_info(env, arguments[1], &requests, &length) != napi_ok ||
      napi_get_value_int64(env, arguments[2], &timeout_ms) != napi_ok) {
    return Throw(env, "ERR_INVALID_ARG_TYPE", "exchange(socket, requests, timeoutMs) takes a socket, a Buffer and a number");
  }
  auto opened = static_cast<Socket*>(socket);
  if (opened->fd < 0 || opened->closing) return Throw(env, "ERR_SOCKET_CLOSED", "The netlink socket is closed");
  if (opened->busy) return Throw(env, "ERR_SOCKET_BUSY", "The netlink socket has an exchange under way");
  opened->busy = true;
  auto exchange = new Exchange;
  exchange->socket = opened;
  exchange->requests = static_cast<uint8_t*>(requests);
  exchange->length = length;
  exchange->timeout_ms = timeout_ms;
  napi_create_reference(env, arguments[0], 1, &exchange->socket_ref);
  napi_create_reference(env, arguments[1], 1, &exchange->requests_ref);
  napi_create_promise(env, &exchange->deferred, &promise);
  napi_create_string_utf8(env, "netlink exchange", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, nullptr, name, Run, Finish, exchange, &exchange->work);
  napi_queue_async_work(env, exchange->work);
  return promise;
}

// close(socket): at once, or when the exchange under way has ended. Closing twice is harmless.
napi_value Close(napi_env env, napi_callback_info info) {
  auto opened = static_cast<Socket*>(ReadExternal(env, info, "close(socket) takes a socket"));
  if (opened == nullptr) return nullptr;
  opened->closing = true;
  if (!opened->busy) CloseSocket(opened);
  return nullptr;
}
