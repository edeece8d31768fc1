/** The program: opens the log, heeds signals, runs the command that is asked for, decides the exit code. */
import { type Logger, pino } from 'pino'
import { commandOf, parseCommandLine } from './command-line.ts'
import { CONN_REUSE_PROBE, runConnReuseProbe } from './kernel/ipvs/conn-reuse.ts'
import { loadAddon } from './netlink/socket.ts'

/** JSON lines on standard error; written at once, so that the last one is there when the process ends. */
function openLog(): Logger {
  return pino(
    { level: 'info', base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  )
}

/** The messages of an error and of what caused it. */
function reasons(error: unknown): string[] {
  if (!(error instanceof Error)) return [String(error)]
  const causes: unknown[] = error instanceof AggregateError ? error.errors : [error.cause]
  return [error.message, ...causes.filter((cause) => cause !== undefined).flatMap(reasons)]
}

/** Starts the program again in place of this process, with the same arguments: the process id stays. */
function startAnew(): never {
  return process.execve!(process.execPath, [process.execPath, ...process.execArgv, ...process.argv.slice(1)])
}

/** A controller that the signals which end the process abort. */
function heedSignals(log: Logger): AbortController {
  const abort = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => {
      log.info({ signal: name }, 'stopping: the kernel stays as it is')
      abort.abort()
    })
  }
  // Without a configuration file there is nothing to read again, and nothing to end for.
  process.on('SIGHUP', () => {
    log.info('received SIGHUP')
  })
  return abort
}

/** Of a pipe whose reader has gone, and of a terminal that has hung up. */
const READER_GONE: readonly (string | undefined)[] = ['EPIPE', 'EIO']

/** Who reads what a command prints may have seen enough, as `head` has. */
function endWithReader(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (!READER_GONE.includes(error.code)) throw error
    process.exit()
  })
}

/** As soon as all is printed: something that hangs may be what a command has found. */
async function endWith(code: number): Promise<never> {
  await new Promise<void>((resolve) => {
    process.stdout.write('', () => {
      resolve()
    })
  })
  process.exit(code)
}

async function main(argv: readonly string[]): Promise<void> {
  const log = openLog()
  const abort = heedSignals(log)
  endWithReader()
  try {
    const commandLine = parseCommandLine(argv)
    const ending = await commandOf(commandLine).run({ commandLine, log, signal: abort.signal })
    if (typeof ending === 'number') await endWith(ending)
    if (ending === 'restart' && !abort.signal.aborted) startAnew()
  } catch (error) {
    const [message, ...because] = reasons(error)
    log.fatal({ because }, message)
    process.exitCode = 1
  } finally {
    abort.abort()
  }
}

// The program starts itself as the probe, in a network namespace of its own.
void (process.argv[2] === CONN_REUSE_PROBE
  ? runConnReuseProbe(loadAddon(), process.argv[3])
  : main(process.argv))
