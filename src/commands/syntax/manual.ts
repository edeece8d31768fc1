/** The manual page, kube-ipvs(8), in roff: the macros of man(7). */
import { LOCAL_SOCKET } from './flags.ts'
import { PROGRAM, type Syntax, type SyntaxCommand, type SyntaxOption } from './syntax.ts'

const GLYPHS: Readonly<Record<string, string>> = {
  '\\': '\\(rs',
  '-': '\\-',
  "'": '\\(aq',
  '"': '\\(dq',
  '`': '\\(ga',
  '^': '\\(ha',
  '~': '\\(ti',
}

/** A text that roff prints as it is, within a line or as one. */
export function escapeRoff(text: string): string {
  const escaped = text
    .replaceAll(/\s+/g, ' ')
    .replaceAll(/[\\'"`^~-]/g, (character) => GLYPHS[character]!)
    .replaceAll(/[^\0-\x7f]/gu, (character) => {
      const code = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')
      return `\\[u${code}]`
    })
  return escaped.startsWith('.') ? `\\&${escaped}` : escaped
}

const bold = (text: string): string => `\\fB${escapeRoff(text)}\\fR`
const italic = (text: string): string => `\\fI${escapeRoff(text)}\\fR`
const paragraph = (head: string, text: string): string[] => ['.TP', head, escapeRoff(text)]

function optionLines({ names, value, isOptional, hint, help }: SyntaxOption): string[] {
  const shown = value === undefined ? '' : isOptional ? `[=${italic(value)}]` : ` ${italic(value)}`
  const choices = Array.isArray(hint) && !isOptional ? `; one of ${hint.join(', ')}` : ''
  return paragraph(`${names.map(bold).join(', ')}${shown}`, `${help}${choices}`)
}

function operandOf(operand: string, choices: readonly string[]): string {
  if (choices.length > 0) return choices.map(bold).join('|')
  const name = italic(operand.slice(1, -1))
  return operand.startsWith('[') ? `[${name}]` : name
}

function commandLines({ name, description, operands, choices, options }: SyntaxCommand): string[] {
  const shown = operands.map((operand) => ` ${operandOf(operand, choices)}`).join('')
  const ownOptions = options.flatMap(optionLines)
  return [
    ...paragraph(`${bold(name)}${shown}`, description),
    ...(ownOptions.length > 0 ? ['.RS', ...ownOptions, '.RE'] : []),
  ]
}

function exitLines({ commands }: Syntax): string[] {
  const own = commands.filter(({ exitCodes }) => exitCodes.length > 0)
  return [
    ...paragraph(bold('0'), 'done'),
    ...paragraph(bold('1'), 'failed: standard error says why'),
    ...own.flatMap(({ name, exitCodes }) =>
      paragraph(bold(name), exitCodes.map((meaning, code) => `${code}: ${meaning}`).join('; ')),
    ),
  ]
}

const FILES = [
  [LOCAL_SOCKET, 'where the running program answers; only root may ask'],
  ['/etc/kube-ipvs/kube-proxy-config.yml', 'the configuration, with the unit of systemd'],
  ['/var/lib/kube-proxy/config.conf', 'the configuration, in a Pod'],
] as const

const SEE_ALSO = ['ipvsadm', 'ipset', 'iptables', 'ip'].map((name) => `${bold(name)}(8)`).join(', ')

export function formatManual(syntax: Syntax, version: string): string {
  const { description, commands, flags, ignored } = syntax
  const lines = [
    `.TH KUBE\\-IPVS 8 "" "${PROGRAM.replace('-', '\\-')} ${escapeRoff(version)}" "System Administration"`,
    // No hyphens that are not in the names, and no gaps.
    ...['.nh', '.ad l'],
    ...['.SH NAME', `${PROGRAM.replace('-', '\\-')} \\- ${escapeRoff(description)}`],
    ...['.SH SYNOPSIS', `${bold(PROGRAM)} [${italic('flag')} ...]`, '.br'],
    `${bold(PROGRAM)} ${italic('command')} [${italic('operand')}] [${italic('option')} ...] [${italic('flag')} ...]`,
    ...[
      '.SH DESCRIPTION',
      'Without a command it serves: it programs IPVS as Services and EndpointSlices want it.',
    ],
    'Configuration and flags are those of kube\\-proxy. SIGTERM leaves the kernel as it is; SIGHUP reads the',
    'configuration again.',
    ...['.SH COMMANDS', ...commands.flatMap(commandLines)],
    ...['.SH FLAGS', 'Every command takes them. Defaults are in parentheses.', ...flags.flatMap(optionLines)],
    ...[
      '.PP',
      'Taken for the sake of old manifests, and without effect:',
      `${ignored.map(bold).join(', ')}.`,
    ],
    ...['.SH EXIT STATUS', ...exitLines(syntax)],
    ...['.SH FILES', ...FILES.flatMap(([file, text]) => paragraph(italic(file), text))],
    ...['.SH SEE ALSO', `${SEE_ALSO}, and the folder docs of the package`],
  ]
  return `${lines.join('\n')}\n`
}
