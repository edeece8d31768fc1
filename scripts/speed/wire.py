"""Says when the kernel has been told to change real and virtual servers, as a network monitor sees it.

  wire.py       for each line of its input, prints a line for each message of IPVS since the last one that changes
                something: when the kernel has answered it, and what it was,
                "<ms since the epoch> <command> <address>:<port> <real server>:<port> <weight>", and then "ready".
                Meanwhile it only keeps what it sees, so that it takes no time from what is measured.
"""
import select
import socket
import struct
import subprocess
import sys

DEVICE = "nlmon0"
GENERIC = 16
ERROR = 2
REQUEST = 1
SO_TIMESTAMPNS = 35
COMMANDS = {1: "-A", 2: "-E", 3: "-D", 5: "-a", 6: "-e", 7: "-d"}
SERVICE, DEST = 1, 2


def attributes(data):
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3:]
    return found


def endpoint(nest, address, port):
    raw = nest.get(address, b"\0\0\0\0")
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    return f"{socket.inet_ntop(family, raw)}:{struct.unpack('!H', nest.get(port, bytes(2)))[0]}"


def describe(command, data):
    top = attributes(data)
    words = [COMMANDS[command], endpoint(attributes(top.get(SERVICE, b"")), 3, 4)]
    if DEST in top:
        dest = attributes(top[DEST])
        words += [endpoint(dest, 1, 2), str(struct.unpack("=I", dest[4])[0]) if 4 in dest else "-"]
    return " ".join(words)


subprocess.run(["ip", "link", "add", DEVICE, "type", "nlmon"], check=True)
subprocess.run(["ip", "link", "set", DEVICE, "up"], check=True)
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
tap.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
tap.bind((DEVICE, 0))
print("ready", flush=True)

waiting = []


def report(data, at):
    """Prints the changes that are answered in this packet."""
    while len(data) >= 16:
        length, kind, flags = struct.unpack_from("=IHH", data)
        if kind == ERROR:
            for text in waiting:
                print(f"{at:.3f} {text}")
            waiting.clear()
        elif flags & REQUEST and kind > 16 and len(data) > 16 and data[16] in COMMANDS:
            waiting.append(describe(data[16], data[20:length]))
        data = data[(max(length, 16) + 3) & ~3:]


packets = []
while True:
    readable, _, _ = select.select([tap, sys.stdin], [], [])
    if tap in readable:
        data, ancillary, _, (_, protocol, *_) = tap.recvmsg(1 << 18, 64)
        seconds, nanoseconds = struct.unpack("=qq", ancillary[0][2]) if ancillary else (0, 0)
        if protocol == GENERIC:
            packets.append((data, seconds * 1000 + nanoseconds / 1e6))
    elif sys.stdin.readline() == "":
        break
    else:
        for packet in packets:
            report(*packet)
        packets.clear()
        print("ready", flush=True)
subprocess.run(["ip", "link", "del", DEVICE], check=True)
