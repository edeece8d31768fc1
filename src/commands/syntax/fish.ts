/** The script that completes in fish. */
import type { ValueHint } from '../../config/flags.ts'
import { PROGRAM, type Syntax, type SyntaxCommand, type SyntaxOption, takingNames } from './syntax.ts'

const quote = (text: string): string => `'${text.replaceAll(/[\\']/g, '\\$&')}'`

/** Words of an argument that fish takes apart itself. */
const list = (words: readonly string[]): string =>
  quote(words.map((word) => (/^[\w./-]+$/.test(word) ? word : quote(word))).join(' '))

function hintOf(hint: ValueHint | undefined): string {
  if (hint === undefined) return ''
  if (hint === 'file') return ' -F'
  return hint === 'directory' ? " -a '(__fish_complete_directories)'" : ` -a ${list(hint)}`
}

function valueOf({ value, isOptional, hint }: SyntaxOption): string {
  if (value === undefined) return ''
  return `${isOptional ? '' : hint === 'file' ? ' -r' : ' -x'}${hintOf(hint)}`
}

/** `command` is undefined for flags, which every command has. */
function optionLine(command: string | undefined, option: SyntaxOption): string {
  const when = command === undefined ? '' : ` -n ${quote(`__kube_ipvs_is ${quote(command)}`)}`
  const names = option.names.map((name) =>
    name.startsWith('--') ? ` -l ${quote(name.slice(2))}` : ` -s ${quote(name.slice(1))}`,
  )
  return `complete -c ${PROGRAM}${when}${names.join('')}${valueOf(option)} -d ${quote(option.help)}`
}

function commandLines({ name, description, choices, options }: SyntaxCommand): string[] {
  const isAsked = quote(`__kube_ipvs_is ${quote(name)}`)
  return [
    `complete -c ${PROGRAM} -n 'not __kube_ipvs_command' -a ${list([name])} -d ${quote(description)}`,
    ...(choices.length > 0 ? [`complete -c ${PROGRAM} -n ${isAsked} -a ${list(choices)}`] : []),
    ...options.map((option) => optionLine(name, option)),
  ]
}

export function formatFish({ commands, flags }: Syntax): string {
  return `# Completes ${PROGRAM} in fish: ${PROGRAM} completion fish | source
# Prints the command that the words before the cursor name; fails where there is none yet.
function __kube_ipvs_command
  set -l is_value 0
  for word in (commandline -opc)[2..-1]
    if test $is_value = 1
      set is_value 0
      continue
    end
    switch $word
      case ${takingNames(flags).map(quote).join(' ')}
        set is_value 1
      case ${commands.map(({ name }) => quote(name)).join(' ')}
        echo $word
        return 0
    end
  end
  return 1
end
function __kube_ipvs_is
  contains -- $argv[1] (__kube_ipvs_command)
end
complete -c ${PROGRAM} -f
${[...flags.map((flag) => optionLine(undefined, flag)), ...commands.flatMap(commandLines)].join('\n')}
`
}
