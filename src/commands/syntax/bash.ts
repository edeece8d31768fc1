/** The script that completes in bash. It takes bash alone, without the package bash-completion. */
import type { ValueHint } from '../../config/flags.ts'
import { PROGRAM, type Syntax, type SyntaxCommand, type SyntaxOption, takingNames } from './syntax.ts'

/** A text as one word, and as a pattern that only it matches. */
function quote(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}

const list = (words: readonly string[]): string => words.map(quote).join(' ')
const anyOf = (patterns: readonly string[]): string => patterns.map(quote).join(' | ')
const namesOf = (options: readonly SyntaxOption[]): string[] => options.flatMap(({ names }) => names)

/** Readline itself completes paths: it knows about tildes, variables and quotes. */
function replyOf(hint: ValueHint): string {
  if (hint === 'file') return 'compopt -o default'
  return hint === 'directory' ? 'compopt -o dirnames' : `words=(${list(hint)})`
}

/** Branches of a `case` over "COMMAND OPTION"; a flag is that of every command. */
function valueBranches(command: string | undefined, options: readonly SyntaxOption[]): string[] {
  const before = command === undefined ? "*' '" : quote(`${command} `)
  return options.flatMap(({ names, hint }) => {
    const patterns = names.map((name) => `${before}${quote(name)}`).join(' | ')
    return hint === undefined ? [] : [`    ${patterns}) ${replyOf(hint)} ;;`]
  })
}

/** Branches of a `case` over the command. */
function branches(
  commands: readonly SyntaxCommand[],
  wordsOf: (command: SyntaxCommand) => readonly string[],
): string[] {
  return commands.flatMap((command) => {
    const words = wordsOf(command)
    return words.length === 0 ? [] : [`          ${quote(command.name)}) words+=(${list(words)}) ;;`]
  })
}

function takingPatterns({ commands, flags }: Syntax): string[] {
  return [
    ...takingNames(flags).map((name) => `*' '${quote(name)}`),
    ...commands.flatMap(({ name, options }) => takingNames(options).map((one) => quote(`${name} ${one}`))),
  ]
}

export function formatBash(syntax: Syntax): string {
  const { commands, flags } = syntax
  return `# Completes ${PROGRAM} in bash: source <(${PROGRAM} completion bash)
_kube_ipvs() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]}
  local command='' option='' prefix='' word i
  local -a words=()
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case \${COMP_WORDS[i]} in
      ${anyOf(takingNames(flags))})
        [[ \${COMP_WORDS[i + 1]} == '=' ]] && ((i++))
        ((i++)) ;;
      '=') ((i++)) ;;
      ${anyOf(commands.map(({ name }) => name))})
        command=\${COMP_WORDS[i]}
        break ;;
    esac
  done
  # Readline makes words of their own of "=" and of what is before and after it, unless it is told otherwise.
  if [[ $current == '=' ]]; then
    option=$previous current=''
  elif [[ $previous == '=' ]]; then
    option=\${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ $current == --*=* ]]; then
    option=\${current%%=*} prefix=\${current%%=*}= current=\${current#*=}
  else
    case "$command $previous" in
      ${takingPatterns(syntax).join(' | ')}) option=$previous ;;
    esac
  fi
  case "$command $option" in
    *' ')
      if [[ $current == -* ]]; then
        words=(${list(namesOf(flags))})
        case $command in
${branches(commands, ({ options }) => namesOf(options)).join('\n')}
        esac
      else
        case $command in
          '') words=(${list(commands.map(({ name }) => name))}) ;;
${branches(commands, ({ choices }) => choices).join('\n')}
        esac
      fi ;;
${[...commands.flatMap(({ name, options }) => valueBranches(name, options)), ...valueBranches(undefined, flags)].join('\n')}
  esac
  for word in "\${words[@]}"; do
    [[ $word == "$current"* ]] || continue
    printf -v word %q "$word"
    COMPREPLY+=("$prefix$word")
  done
}
complete -F _kube_ipvs ${PROGRAM}
`
}
