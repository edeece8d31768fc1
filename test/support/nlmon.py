"""Counts the netlink messages that go to the kernel in this network namespace, as a network monitor sees them.

  nlmon.py      listens on a new nlmon device until standard input ends, then prints JSON: how many messages there
                were by protocol, type and, for generic netlink, command, as "16/28/1"
"""
import collections
import json
import select
import socket
import struct
import subprocess
import sys

DEVICE = "nlmon0"
GENERIC = 16
REQUEST = 1  # NLM_F_REQUEST: only messages to the kernel have it

subprocess.run(["ip", "link", "add", DEVICE, "type", "nlmon"], check=True)
subprocess.run(["ip", "link", "set", DEVICE, "up"], check=True)
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
tap.bind((DEVICE, 0))
print("ready", flush=True)

counts = collections.Counter()
while True:
    readable, _, _ = select.select([tap, sys.stdin], [], [])
    if tap in readable:
        data, (_, protocol, *_) = tap.recvfrom(1 << 18)
        while len(data) >= 16:
            length, kind, flags = struct.unpack_from("=IHH", data)
            command = f"/{data[16]}" if protocol == GENERIC and length > 16 else ""
            counts[f"{protocol}/{kind}{command}"] += flags & REQUEST
            data = data[(max(length, 16) + 3) & ~3:]
    elif not sys.stdin.read(1):
        break
subprocess.run(["ip", "link", "del", DEVICE], check=True)
print(json.dumps(+counts))
