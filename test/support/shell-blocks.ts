/** The commands in pages of docs: those of fenced blocks of sh, and those of kubectl within sentences. */

/** Why no test runs a command: it says so itself, where it stands. */
const MARKER = /#\s*((?:on the node|needs a real cluster).*)$/

export interface Command {
  /** As it is run: with its continuations, without indentation and comment. */
  readonly text: string
  /** What its marker says, or that of the first line of its block. */
  readonly marker: string | undefined
  /** The heading of the second level that it is under. */
  readonly section: string
}

/** Whether more lines belong to a command: a quote, a here-document or a pipe is open. */
function isOpen(text: string): boolean {
  const [head, ...lines] = text.split('\n')
  const end = /<<(\w+)/.exec(head!)?.[1]
  if (end !== undefined) return !lines.includes(end)
  return /(\\|\||&&)$/.test(text) || (text.match(/'/g)?.length ?? 0) % 2 === 1
}

const COMMENT = /\s+#\s.*$/

/** Those of one block, in their order. */
function commandsOf(block: string, section: string): Command[] {
  const commands: Command[] = []
  let text = ''
  let ofBlock: string | undefined
  for (const line of block.trimEnd().split('\n')) {
    if (text === '' && line.startsWith('#')) {
      if (commands.length === 0) ofBlock = MARKER.exec(line)?.[1]
      continue
    }
    if (text === '' && line === '') continue
    const isHereDocument = text.includes('<<')
    text += (text === '' ? '' : '\n') + (isHereDocument ? line : line.replace(COMMENT, ''))
    if (isOpen(text)) continue
    commands.push({ text, marker: MARKER.exec(line)?.[1] ?? ofBlock, section })
    text = ''
  }
  if (text !== '') throw new Error(`a command does not end: ${text}`)
  return commands
}

/** All of a page's fenced blocks of sh, also where they are part of a list. */
export function fencedCommands(page: string): Command[] {
  return page
    .split(/^## /m)
    .flatMap((part) =>
      [...part.matchAll(/^( *)```sh\n([^]*?)^ *```$/gm)].flatMap(([, indentation, block]) =>
        commandsOf(block!.replaceAll(new RegExp(`^${indentation!}`, 'gm'), ''), part.split('\n')[0]!),
      ),
    )
}

/** Commands of kubectl within sentences, each once. */
export function inlineCommands(page: string): string[] {
  const prose = page.replaceAll(/^ *```[^]*?^ *```$/gm, '')
  const spans = [...prose.matchAll(/`(kubectl [^`]+)`/g)].map(([, span]) => span!.replaceAll(/\s+/g, ' '))
  return [...new Set(spans)]
}
