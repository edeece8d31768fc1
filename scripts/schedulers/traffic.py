"""The experiment's Pods and clients: in Python, as an emulated processor runs it with less work than Node.

  traffic.py pods        reads {port, slots, pods: [{address, isSlow}]}, a line; prints "ready", and serves until it is
                         ended. A request is two numbers: the ms that it takes on a Pod that is not slow, and on one
                         that is. A Pod handles `slots` at once, others wait in its queue; it answers {pod, waited,
                         worked}
  traffic.py clients     reads {address, port, patience, requests: [{at, source, port, work}]}, a line; sends each `at`
                         ms after the start, whatever has been answered, on a connection of its own; prints a list of
                         {pod, latency, lag, overhead}, all in ms, or {error}
"""
import collections
import errno
import heapq
import itertools
import json
import select
import socket
import sys
import time

BACKLOG = 1024
IN, OUT = select.EPOLLIN, select.EPOLLOUT

epoll = select.epoll()
handlers = {}
timers = []
numbers = itertools.count()


def now():
    return time.monotonic() * 1000


def watch(sock, events, call):
    """Calls when the socket is ready, until it is not watched any more, or for something else."""
    number = sock.fileno()
    (epoll.modify if number in handlers else epoll.register)(number, events)
    handlers[number] = call


def unwatch(sock):
    del handlers[sock.fileno()]
    epoll.unregister(sock.fileno())


def at(due, call):
    heapq.heappush(timers, (due, next(numbers), call))


def turn():
    """Waits for sockets until something is due, then calls it."""
    wait = max(timers[0][0] - now(), 0) / 1000 if timers else None
    for number, _ in epoll.poll(wait):
        if number in handlers:
            handlers[number]()
    while timers and timers[0][0] <= now():
        heapq.heappop(timers)[-1]()


def open_pod(number, address, is_slow, port, slots):
    waiting = collections.deque()
    busy = 0

    def listen():
        listener = socket.create_server((address, port), backlog=BACKLOG)
        listener.setblocking(False)
        watch(listener, IN, lambda: accept(listener))

    def accept(listener):
        sock, _ = listener.accept()
        watch(sock, IN, lambda: take(sock))

    def take(sock):
        nonlocal busy
        work = float(sock.recv(64).split()[is_slow])
        unwatch(sock)
        if busy < slots:
            busy += 1
            begin(sock, now(), work)
        else:
            waiting.append((sock, now(), work))

    def begin(sock, came, work):
        begun = now()
        at(begun + work, lambda: end(sock, begun - came, work))

    def end(sock, waited, work):
        nonlocal busy
        if waiting:
            begin(*waiting.popleft())
        else:
            busy -= 1
        try:
            sock.send(json.dumps({"pod": number, "waited": waited, "worked": work}).encode())
        except OSError:
            pass  # The client says what went wrong.
        sock.close()

    listen()


def serve(port, slots, pods):
    for number, pod in enumerate(pods):
        open_pod(number, pod["address"], pod["isSlow"], port, slots)
    print("ready", flush=True)
    while True:
        turn()


def send(request, target, due, patience, done):
    """Sends one request; it does not end its side of the connection: to IPVS that would be the end of it."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    lag = now() - due
    is_over = False

    def over(answer):
        nonlocal is_over
        if not is_over:
            is_over = True
            unwatch(sock)
            sock.close()
            done(answer)

    def ask():
        try:
            sock.send(request["work"].encode())
            watch(sock, IN, hear)
        except OSError as error:
            over({"error": errno.errorcode[error.errno]})

    def hear():
        try:
            reply = json.loads(sock.recv(256))
            latency = now() - due
            overhead = latency - reply["waited"] - reply["worked"]
            over({"pod": reply["pod"], "latency": latency, "lag": lag, "overhead": overhead})
        except ValueError:
            over({"error": "closed without an answer"})
        except OSError as error:
            over({"error": errno.errorcode[error.errno]})

    sock.bind((request["source"], request["port"]))
    sock.connect_ex(target)
    watch(sock, OUT, ask)
    at(due + patience, lambda: over({"error": "no answer"}))


def send_all(address, port, patience, requests):
    answers = [None] * len(requests)
    left = len(requests)
    start = now()

    def begin(i):
        def done(answer):
            nonlocal left
            left -= 1
            answers[i] = answer

        due = start + requests[i]["at"]
        at(due, lambda: send(requests[i], (address, port), due, patience, done))

    for i in range(len(requests)):
        begin(i)
    while left:
        turn()
    print(json.dumps(answers))


{"pods": serve, "clients": send_all}[sys.argv[1]](**json.loads(sys.stdin.readline()))
