"""Real traffic for the lab: TCP, UDP and SCTP, both families, from one small program.

  traffic.py serve NAME PORT                    answers NAME and the client it saw, on every protocol
  traffic.py connect PROTO ADDRESS PORT [-n COUNT] [-s SOURCE_PORT]
                                                COUNT connections one after the other, from ascending source
                                                ports: who answered, as JSON
  traffic.py hold PROTO ADDRESS PORT [-n COUNT] [-s SOURCE_PORT] [-p PAUSE] [-t TIMEOUT]
                                                opens COUNT connections, speaks on each of them every PAUSE seconds
                                                (0.1), waits TIMEOUT seconds for the answer (5), prints a JSON line
                                                for what is open and what has broken, until standard input ends
  traffic.py stream RATE                        reads a line, a JSON list of targets {protocol, address, port}, and
                                                opens RATE connections a second, to one after the other: a request
                                                and its answer on each; prints a JSON line each second for what
                                                became of them, until standard input ends, and then a last one
  traffic.py ask SECONDS                        reads a JSON list of questions {protocol, address, port, count,
                                                source?}, opens all their connections at once, and prints for each
                                                who answered and which client it saw, or the error; no answer within
                                                SECONDS is a timeout
"""
import argparse
import errno
import json
import os
import selectors
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

TYPES = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, 132),
}
TIMEOUT = 5
# For what is to be answered on a machine that has much else to do.
PATIENCE = 60
# Source ports of new connections, each its own: two with one port, to two virtual servers with one real server, IPVS
# cannot tell apart on the way back.
FIRST_PORT, PORTS = 20000, 40000


def open_socket(family, proto):
    sock = socket.socket(family, *TYPES[proto])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def serve(name, port):
    families = [(socket.AF_INET, "0.0.0.0")]
    if os.path.exists("/proc/net/if_inet6"):
        families.append((socket.AF_INET6, "::"))
    for proto in TYPES:
        for family, address in families:
            sock = open_socket(family, proto)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address, port))
            target = answer_datagrams if proto == "udp" else accept
            if proto != "udp":
                sock.listen(1024)
            threading.Thread(target=target, args=(sock, name), daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


def greeting(name, peer):
    return f"{name} {peer[0]}\n".encode()


def answer_datagrams(sock, name):
    while True:
        _, peer = sock.recvfrom(2048)
        sock.sendto(greeting(name, peer), peer)


def accept(sock, name):
    while True:
        connection, peer = sock.accept()
        threading.Thread(target=echo, args=(connection, greeting(name, peer)), daemon=True).start()


def echo(connection, hello):
    try:
        connection.sendall(hello)
        while data := connection.recv(2048):
            connection.sendall(data)
    except OSError:
        pass
    finally:
        connection.close()


def dial(proto, address, port, source_port, timeout=TIMEOUT):
    sock = open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, proto)
    sock.settimeout(timeout)
    try:
        if source_port:
            sock.bind(("::" if ":" in address else "0.0.0.0", source_port))
        sock.connect((address, port))
        if proto == "udp":
            sock.send(b"hello\n")
        return sock, sock.recv(2048).decode().split()
    except OSError:
        sock.close()
        raise


def reason(error):
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__


def connect(proto, address, port, count, source_port):
    answers, sources, errors, sequence = {}, {}, {}, []
    for i in range(count):
        try:
            sock, (name, source) = dial(proto, address, port, source_port + i if source_port else 0)
            sock.close()
            sequence.append(name)
            answers[name] = answers.get(name, 0) + 1
            sources[source] = sources.get(source, 0) + 1
        except OSError as error:
            errors[reason(error)] = errors.get(reason(error), 0) + 1
    print(json.dumps({"answers": answers, "sources": sources, "errors": errors, "sequence": sequence}))


def hold(proto, address, port, count, source_port, pause, timeout):
    ports = [source_port + i if source_port else 0 for i in range(count)]
    connections = [dial(proto, address, port, source, timeout) for source in ports]
    state = {"servers": sorted(name for _, (name, _) in connections), "open": count, "broken": {}, "rounds": 0}
    print(json.dumps(state), flush=True)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        for entry in list(connections):
            sock, (name, _) = entry
            try:
                sock.sendall(b"ping\n")
                if not sock.recv(2048):
                    raise ConnectionResetError
            except OSError as error:
                connections.remove(entry)
                state["broken"][name] = reason(error)
        state["open"] = len(connections)
        state["rounds"] += 1
        print(json.dumps(state), flush=True)
        ended.wait(pause)


def speak_once(source_port, protocol, address, port):
    sock, _ = dial(protocol, address, port, source_port, PATIENCE)
    with sock:
        sock.sendall(b"ping\n")
        if not sock.recv(2048):
            raise ConnectionResetError


def stream(rate):
    targets = json.loads(sys.stdin.readline())
    state = {"asked": 0, "answered": 0, "errors": {}, "slowest": 0, "seconds": 0}
    guard = threading.Lock()
    ended = threading.Event()
    begun = time.monotonic()

    def speak(target, source_port):
        since = time.monotonic()
        try:
            speak_once(source_port, **target)
            outcome = None
        except OSError as error:
            outcome = f"{target['address']}:{target['port']} {reason(error)}"
        with guard:
            if outcome is None:
                state["answered"] += 1
            else:
                tally(state["errors"], outcome)
            state["slowest"] = max(state["slowest"], time.monotonic() - since)

    def tell():
        with guard:
            state["seconds"] = time.monotonic() - begun
            print(json.dumps(state), flush=True)

    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    with ThreadPoolExecutor(100) as pool:
        while not ended.is_set():
            pool.submit(speak, targets[state["asked"] % len(targets)], FIRST_PORT + state["asked"] % PORTS)
            state["asked"] += 1
            if state["asked"] % rate == 0:
                tell()
            ended.wait(max(0, begun + state["asked"] / rate - time.monotonic()))
    tell()


def begin(question):
    """A connection that is under way; raises what fails at once."""
    address = question["address"]
    sock = open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET, question["protocol"])
    try:
        sock.setblocking(False)
        if "source" in question:
            sock.bind((question["source"], 0))
        try:
            sock.connect((address, question["port"]))
        except BlockingIOError:
            pass
        if question["protocol"] == "udp":
            sock.send(b"hello\n")
        return sock
    except OSError:
        sock.close()
        raise


def tally(counts, key):
    counts[key] = counts.get(key, 0) + 1


def receive(sock, result):
    """Whether the connection has told how it went."""
    try:
        tally(result["seen"], sock.recv(2048).decode().strip())
    except BlockingIOError:
        return False
    except OSError as error:
        tally(result["errors"], errno.errorcode[error.errno])
    return True


def ask(seconds):
    questions = json.load(sys.stdin)
    results = [{"seen": {}, "errors": {}} for _ in questions]
    waiting = selectors.DefaultSelector()
    for question, result in zip(questions, results):
        for _ in range(question["count"]):
            try:
                waiting.register(begin(question), selectors.EVENT_READ, result)
            except OSError as error:
                tally(result["errors"], errno.errorcode[error.errno])
    end = time.monotonic() + seconds
    while waiting.get_map() and (left := end - time.monotonic()) > 0:
        for key, _ in waiting.select(left):
            if receive(key.fileobj, key.data):
                waiting.unregister(key.fileobj)
                key.fileobj.close()
    for key in waiting.get_map().values():
        tally(key.data["errors"], "timeout")
    print(json.dumps(results))


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    server = verbs.add_parser("serve")
    server.add_argument("name")
    server.add_argument("port", type=int)
    for verb in ("connect", "hold"):
        client = verbs.add_parser(verb)
        client.add_argument("proto", choices=TYPES)
        client.add_argument("address")
        client.add_argument("port", type=int)
        client.add_argument("-n", "--count", type=int, default=1)
        client.add_argument("-s", "--source-port", type=int, default=0)
        if verb == "hold":
            client.add_argument("-p", "--pause", type=float, default=0.1)
            client.add_argument("-t", "--timeout", type=float, default=TIMEOUT)
    verbs.add_parser("stream").add_argument("rate", type=int)
    verbs.add_parser("ask").add_argument("seconds", type=float)
    args = vars(parser.parse_args())
    globals()[args.pop("verb")](**args)


main()
