/** The terminal as a screen that keys change; afterwards it is what it was, however the process ends. */
import { emitKeypressEvents, type Key } from 'node:readline'
import type { ScreenSize } from '../../view/top-screen.ts'

/** The alternate screen, without a cursor; and back. */
const ENTER = '\x1b[?1049h\x1b[?25l'
const LEAVE = '\x1b[?25h\x1b[?1049l'
const CLEAR = '\x1b[H\x1b[J'
/** They end a process where nobody heeds them. Others are the program's to heed. */
const ENDING = ['SIGHUP', 'SIGQUIT'] as const

export interface Listeners {
  /** By its name in node:readline; with Ctrl it is `ctrl-c`. */
  readonly onKey: (key: string) => void
  readonly onResize: () => void
  /** Nobody looks any more. */
  readonly onEnd: () => void
}

export interface Terminal {
  readonly size: () => ScreenSize
  /** Lines that fit. */
  readonly draw: (lines: readonly string[]) => void
  readonly close: () => void
}

/** Somebody can look, and press keys. */
export function hasTerminal(): boolean {
  return process.stdin.isTTY && process.stdout.isTTY
}

function nameOf(text: string | undefined, { name = text ?? '', ctrl = false }: Key): string {
  return ctrl ? `ctrl-${name}` : name
}

/** Takes the terminal, of which hasTerminal() is true. */
export function openTerminal({ onKey, onResize, onEnd }: Listeners): Terminal {
  const { stdin, stdout } = process
  const listen = (text: string | undefined, key: Key): void => {
    onKey(nameOf(text, key))
  }
  let isOpen = true
  const close = (): void => {
    if (!isOpen) return
    isOpen = false
    stdin.off('keypress', listen).setRawMode(false).pause()
    stdout.off('resize', onResize).write(LEAVE)
  }
  process.once('exit', close)
  for (const name of ENDING) process.once(name, onEnd)
  // One that has hung up is at its end, or fails. What it says later, nobody has to hear.
  stdin.on('end', onEnd).on('error', onEnd)
  emitKeypressEvents(stdin)
  stdin.on('keypress', listen).setRawMode(true).resume()
  stdout.on('resize', onResize).write(ENTER)
  return {
    size: () => ({ rows: stdout.rows, columns: stdout.columns }),
    draw: (lines) => {
      if (isOpen) stdout.write(`${CLEAR}${lines.join('\n')}`)
    },
    close,
  }
}
