/** A terminal for a program, and somebody who types. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const PTY = 'test/support/pty.py'

/** What happens to the program, as test/support/pty.py has it. */
export type Step =
  | readonly ['expect' | 'send' | 'signal', string]
  | readonly ['resize', number, number]
  | readonly ['wait', number]
  | readonly ['hangup']

export interface Session {
  readonly output: string
  /** Negative for a signal. */
  readonly code: number
  /** The modes of the terminal are what they were before. */
  readonly isRestored: boolean
}

/** Runs a program of which each step comes true; throws an Error for the first that does not. */
export async function inTerminal(
  steps: readonly Step[],
  command: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Session> {
  const { stdout } = await promisify(execFile)('python3', [PTY, JSON.stringify(steps), ...command], {
    env: { ...process.env, TERM: 'xterm', ...env },
    maxBuffer: 64 * 1024 * 1024,
  })
  return JSON.parse(stdout) as Session
}
