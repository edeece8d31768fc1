/** How the commands that look print what they have found. */
import type { CommandContext, CommandOption, ExitCode } from '../command.ts'

export const OUTPUT: CommandOption = {
  flags: '-o, --output <format>',
  help: 'table, for people, or json: docs/inspection.md has its fields',
  choices: ['table', 'json'],
}

/** What would move a terminal's cursor, or worse, in names that others have given. */
const CONTROL = /[\x00-\x1f\x7f-\x9f]/g

/** Without what is no text. */
export const printable = (line: string): string => line.replaceAll(CONTROL, '\ufffd')

/** Prints a document as text, or as JSON where that is asked for. */
export function print<Document extends object>(
  { commandLine: { options } }: Pick<CommandContext, 'commandLine'>,
  document: Document,
  format: (document: Document) => readonly string[],
): void {
  const lines =
    options.output === 'json' ? [JSON.stringify(document, undefined, 2)] : format(document).map(printable)
  process.stdout.write(lines.map((line) => `${line}\n`).join(''))
}

/** For people: what went wrong, and what caused it. */
function printError(error: unknown): void {
  const { message, cause } = error as Error
  const isNew = cause instanceof Error && !message.includes(cause.message)
  const because = isNew ? `: ${cause.message}` : ''
  process.stderr.write(`kube-ipvs: ${message}${because}\n`)
}

/** Beside the result, and no part of it. */
export function printNote(text: string): void {
  process.stderr.write(`# ${text}\n`)
}

/** What goes wrong while a command looks is a line for people, and an exit code. */
export async function orPrintError(look: () => Promise<ExitCode>, code: ExitCode): Promise<ExitCode> {
  try {
    return await look()
  } catch (error) {
    printError(error)
    return code
  }
}
