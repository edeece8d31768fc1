/** The script that completes in zsh: sourced, or as the file _kube-ipvs in a folder of fpath. */
import type { ValueHint } from '../../config/flags.ts'
import { PROGRAM, type Syntax, type SyntaxCommand, type SyntaxOption } from './syntax.ts'

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

/** Within a description of _arguments or _describe. */
const escape = (text: string): string => text.replaceAll(/[\\:[\]]/g, '\\$&')

/** Within a list of words that _arguments evaluates; it takes the backslash before a colon away. */
const wordOf = (text: string): string => text.replaceAll(/[^\w./-]/g, '\\$&')

function actionOf(hint: ValueHint | undefined): string {
  if (hint === undefined) return ' '
  if (hint === 'file') return '_files'
  return hint === 'directory' ? '_files -/' : `(${hint.map(wordOf).join(' ')})`
}

/** Specifications of _arguments: one for each name, of which only one is given. */
function optionSpecs({ names, value, isOptional, hint, help }: SyntaxOption): string[] {
  const others = names.length > 1 ? `(${names.join(' ')})` : ''
  const after = value === undefined ? '' : `${isOptional ? ':' : ''}:${escape(value)}:${actionOf(hint)}`
  const mark = (name: string): string => {
    if (value === undefined) return ''
    return isOptional ? '=-' : name.startsWith('--') ? '=' : '+'
  }
  return names.map((name) => quote(`${others}${name}${mark(name)}[${escape(help)}]${after}`))
}

function operandSpecs({ operands, choices }: SyntaxCommand): string[] {
  return operands.map((operand, i) => {
    const colons = operand.startsWith('[') ? '::' : ':'
    const action = actionOf(choices.length > 0 ? choices : undefined)
    return quote(`${i + 1}${colons}${escape(operand.slice(1, -1))}:${action}`)
  })
}

function branch(command: SyntaxCommand): string {
  const specs = [...command.options.flatMap(optionSpecs), ...operandSpecs(command)]
  return `        ${quote(command.name)})
          _arguments "$flags[@]" ${specs.map((spec) => `\\\n            ${spec} `).join('')}&& ret=0 ;;`
}

function commandLine({ name, description }: SyntaxCommand): string {
  return `        ${quote(`${escape(name)}:${escape(description)}`)}`
}

export function formatZsh({ commands, flags }: Syntax): string {
  const specs = flags.flatMap(optionSpecs).map((spec) => `    ${spec}`)
  return `#compdef ${PROGRAM}
# Completes ${PROGRAM} in zsh: source <(${PROGRAM} completion zsh)
compdef _kube_ipvs ${PROGRAM}
_kube_ipvs() {
  local curcontext="$curcontext" state line ret=1
  local -A opt_args
  local -a flags commands
  flags=(
${specs.join('\n')}
  )
  _arguments -C "$flags[@]" '1: :->command' '*::: :->rest' && ret=0
  case $state in
    command)
      commands=(
${commands.map(commandLine).join('\n')}
      )
      _describe -t commands command commands && ret=0 ;;
    rest)
      words=("$line[1]" "\${words[@]}")
      ((CURRENT++))
      case $line[1] in
${commands.map(branch).join('\n')}
      esac ;;
  esac
  return ret
}
# As a file of fpath this is the body of the function itself.
if [[ $funcstack[1] == _kube-ipvs ]]; then _kube_ipvs "$@"; fi
`
}
