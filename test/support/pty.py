"""Runs a program in a terminal of its own: pty.py STEPS COMMAND ...

STEPS is a JSON list: ["expect", PATTERN] in what has been printed since the last step that expects, ["send", TEXT],
["resize", ROWS, COLUMNS], ["signal", NAME], ["wait", SECONDS], ["hangup"]. Then the program has to end. Prints JSON:
what it has written, its exit code or the negative number of its signal, and whether the terminal has its modes again.
"""
import fcntl, json, os, re, select, signal, struct, subprocess, sys, termios, time

LIMIT_S = 30
steps, command = json.loads(sys.argv[1]), sys.argv[2:]
master, slave = os.openpty()
output, seen = '', 0


def resize(rows, columns):
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))


def take_terminal():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def read(seconds):
    """Takes what is written within that time; what is not read would stop its writer."""
    global output
    if select.select([master], [], [], seconds)[0]:
        output += os.read(master, 65536).decode('utf8', 'replace')


def fail(reason):
    child.kill()
    sys.exit(f'{reason}, in what follows {seen} characters of {output!r}')


resize(24, 80)
before = termios.tcgetattr(slave)
child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal)
is_open = True
for name, *arguments in steps:
    if name == 'expect':
        end = time.monotonic() + LIMIT_S
        while not (match := re.compile(arguments[0], re.S).search(output, seen)):
            if time.monotonic() > end:
                fail(f'no {arguments[0]!r} within {LIMIT_S} s')
            read(0.1)
        seen = match.end()
    elif name == 'send':
        os.write(master, arguments[0].encode())
    elif name == 'wait':
        end = time.monotonic() + arguments[0]
        while time.monotonic() < end:
            read(0.05)
    elif name == 'resize':
        resize(*arguments)
    elif name == 'signal':
        child.send_signal(getattr(signal, f'SIG{arguments[0]}'))
    elif name == 'hangup':
        is_open = False
        os.close(slave)
        os.close(master)
end = time.monotonic() + LIMIT_S
while child.poll() is None:
    if time.monotonic() > end:
        fail(f'it has not ended within {LIMIT_S} s')
    read(0.1) if is_open else time.sleep(0.1)
if is_open:
    read(0)
after = termios.tcgetattr(slave) if is_open else None
print(json.dumps({'output': output, 'code': child.returncode, 'isRestored': after == before}))
