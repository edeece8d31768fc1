/** What bash, zsh and fish complete: each shell itself is asked. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { FLAG_NAMES } from '../../src/command-line.ts'
import type { Command } from '../../src/commands/command.ts'
import { COMMANDS, DEFAULT_COMMAND, SYNTAX } from '../../src/commands/commands.ts'
import { formatBash } from '../../src/commands/syntax/bash.ts'
import { formatFish } from '../../src/commands/syntax/fish.ts'
import { type Syntax, syntaxOf } from '../../src/commands/syntax/syntax.ts'
import { formatZsh } from '../../src/commands/syntax/zsh.ts'
import { inTerminal, type Step } from '../support/pty.ts'

/** What a shell, roff or a reader of either could take for something else. */
const ODD_TEXT = `.it's "so": [a] \\n \\fB $HOME \`id\` $(id) (b) {c} ~ # % ; & * done`
const ODD_WORDS = ['a b', "it's", '$x', 'c:d', '[e]', '\\f', '(g)', '"h"']
const ODD: Command = {
  name: 'odd',
  description: ODD_TEXT,
  options: [{ flags: '--pick <what>', help: ODD_TEXT, choices: ODD_WORDS }],
  run: () => Promise.resolve(0),
}
const WITH_ODD = syntaxOf(DEFAULT_COMMAND, [...COMMANDS, ODD])

/** Words up to the cursor, and what completes the last of them. */
const TABLE: readonly (readonly [string, readonly string[]])[] = [
  ['to', ['top']],
  ['--config /x to', ['top']],
  ['--config=/x to', ['top']],
  ['--cleanup=true to', ['top']],
  ['--log-file=report to', ['top']],
  ['--hostname-override get to', ['top']],
  ['top --by ', ['service', 'pod', 'server']],
  ['top --by ser', ['service', 'server']],
  ['top --by=ser', ['service', 'server']],
  ['top --once --sort ', ['bytes', 'packets', 'connections', 'new', 'name']],
  ['get -o ', ['table', 'json']],
  ['get shop/web --output j', ['json']],
  ['--vip-binding ', ['address', 'route']],
  ['top --vip-binding r', ['route']],
  ['--cleanup=', ['true', 'false']],
  ['--proxy-mode ', ['ipvs']],
  ['--master ', []],
  ['explain --from ', []],
  ['get --on', []],
  ['top --on', ['--once']],
  ['plan t', []],
  ['completion ', ['bash', 'zsh', 'fish']],
]

const namesOf = (options: Syntax['flags']): string[] => options.flatMap(({ names }) => names)

describe('what is completed', () => {
  it('is every command with a name, and every flag that the help shows', () => {
    const names = COMMANDS.filter(({ flag }) => flag === undefined).map(({ name }) => name)
    expect(SYNTAX.commands.map(({ name }) => name)).to.deep.equal(names)
    const all = [...namesOf(SYNTAX.flags), ...SYNTAX.ignored]
    expect(all).to.have.members([...FLAG_NAMES.map((name) => `--${name}`), '-v', '-h', '--help', '--version'])
    expect(namesOf(SYNTAX.commands.find(({ name }) => name === 'top')!.options)).to.deep.equal([
      ...['--by', '--sort', '--once', '-o', '--output'],
    ])
  })
})

describe('bash', () => {
  /** As readline makes words: "=" is one of its own. */
  function complete(syntax: Syntax, line: string, separator = '='): string[] {
    const words = line.split(' ').flatMap((word) => {
      const [, name, value] = /^(--[^=]*)=(.*)$/.exec(word) ?? []
      if (name === undefined || separator !== '=') return [word]
      return value === '' ? [name, '='] : [name, '=', value!]
    })
    const script = `${formatBash(syntax)}
      COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
      _kube_ipvs
      ((\${#COMPREPLY[@]} == 0)) || printf '%s\\n' "\${COMPREPLY[@]}"`
    const stdout = execFileSync('bash', ['-uc', script, 'bash', 'kube-ipvs', ...words], { encoding: 'utf8' })
    return stdout.split('\n').slice(0, -1)
  }

  for (const [line, words] of TABLE)
    it(`completes "${line}" with ${words.join(', ') || 'nothing'}`, () => {
      expect(complete(SYNTAX, line)).to.deep.equal(words)
    })

  it('completes a value where readline does not take it apart', () => {
    expect(complete(SYNTAX, 'top --by=ser', '')).to.deep.equal(['--by=service', '--by=server'])
  })

  it('knows every command, option and flag', () => {
    expect(complete(SYNTAX, '')).to.deep.equal(SYNTAX.commands.map(({ name }) => name))
    for (const { name, options } of SYNTAX.commands)
      expect(complete(SYNTAX, `${name} -`)).to.deep.equal(namesOf([...SYNTAX.flags, ...options]))
  })

  it('completes words with special characters as words', () => {
    const words = ['a\\ b', "it\\'s", '\\$x', 'c:d', '\\[e\\]', '\\\\f', '\\(g\\)', '\\"h\\"']
    expect(complete(WITH_ODD, 'odd --pick ')).to.deep.equal(words)
  })

  describe('in a terminal', () => {
    let folder: string
    before(() => {
      folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
      writeFileSync(join(folder, 'rc'), `PS1='READY> ' HISTFILE=\n${formatBash(SYNTAX)}`)
      mkdirSync(join(folder, 'some folder'))
      writeFileSync(join(folder, 'some file'), '')
    })
    after(() => {
      rmSync(folder, { recursive: true })
    })

    for (const [line, completed] of [
      [`--config=FOLDER/some\\ fi`, 'some\\ file '],
      [`--manifests FOLDER/so`, 'some\\ folder/'],
      ['top --by=p', '--by=pod '],
      ['top --by p', '--by pod '],
    ] as const)
      it(`completes "${line}"`, async () => {
        const typed = `kube-ipvs ${line.replace('FOLDER', folder)}`
        const pattern = completed.replaceAll(/[\\]/g, '\\\\')
        const steps: Step[] = [['expect', 'READY> '], ['send', `${typed}\t`], ['expect', pattern], ['hangup']]
        await inTerminal(steps, ['bash', '--rcfile', join(folder, 'rc'), '-i'])
      })
  })
})

describe('fish', () => {
  let home: string
  before(() => {
    home = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
  })
  after(() => {
    rmSync(home, { recursive: true })
  })

  /** Words and their descriptions. */
  function complete(syntax: Syntax, line: string): Map<string, string> {
    const script = `${formatFish(syntax)}\ncomplete -C $argv[1]`
    const stdout = execFileSync('fish', ['--no-config', '-c', script, `kube-ipvs ${line}`], {
      encoding: 'utf8',
      env: { ...process.env, HOME: home },
    })
    const pairs = stdout.split('\n').slice(0, -1)
    return new Map(pairs.map((pair) => pair.split('\t') as [string, string]))
  }

  for (const [line, words] of TABLE)
    it(`completes "${line}" with ${words.join(', ') || 'nothing'}`, () => {
      const prefix = /--\w+=(?=\w*$)/.exec(line)?.[0] ?? ''
      const completed = [...complete(SYNTAX, line).keys()]
      expect(completed).to.have.members(words.map((word) => `${prefix}${word}`))
    })

  it('knows every command, option and flag, with its description', () => {
    expect([...complete(SYNTAX, '')]).to.have.deep.members(
      SYNTAX.commands.map(({ name, description }) => [name, description]),
    )
    for (const { name, options } of SYNTAX.commands) {
      const completed = new Map([...complete(SYNTAX, `${name} -`), ...complete(SYNTAX, `${name} --`)])
      for (const { names, help } of [...SYNTAX.flags, ...options])
        for (const one of names) expect(completed.get(one), `${name} ${one}`).to.equal(help)
    }
  })

  it('completes files and folders', () => {
    mkdirSync(join(home, 'folder'))
    writeFileSync(join(home, 'file'), '')
    expect([...complete(SYNTAX, `--config ${home}/f`).keys()]).to.deep.equal([
      `${home}/file`,
      `${home}/folder/`,
    ])
    expect([...complete(SYNTAX, `--manifests ${home}/f`).keys()]).to.deep.equal([`${home}/folder/`])
  })

  it('shows texts with special characters as they are', () => {
    expect(complete(WITH_ODD, 'od').get('odd')).to.equal(ODD_TEXT)
    expect(complete(WITH_ODD, 'odd --pi').get('--pick')).to.equal(ODD_TEXT)
    expect([...complete(WITH_ODD, 'odd --pick ').keys()]).to.have.members(ODD_WORDS)
  })
})

describe('zsh', () => {
  let folder: string
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    mkdirSync(join(folder, 'functions'))
    writeFileSync(join(folder, 'file'), '')
  })
  after(() => {
    rmSync(folder, { recursive: true })
  })

  /** What a terminal shows after a tab. A line that is `unique` is completed, others get a list. */
  async function complete(syntax: Syntax, line: string, setUp = `source ${folder}/script`): Promise<string> {
    writeFileSync(join(folder, 'script'), formatZsh(syntax))
    writeFileSync(join(folder, 'functions', '_kube-ipvs'), formatZsh(syntax))
    writeFileSync(
      join(folder, '.zshrc'),
      `fpath=(${setUp === '' ? `${folder}/functions` : ''} $fpath)
      autoload -Uz compinit && compinit -u -D
      PS1='READY> ' LISTMAX=10000
      setopt no_beep
      zstyle ':completion:*' list-separator '--'
      zstyle ':completion:*' verbose yes
      ${setUp}
      show() { zle complete-word; zle list-choices; zle -R; print -n END }
      zle -N show && bindkey '^T' show\n`,
    )
    const steps: Step[] = [
      ['resize', 600, 400],
      ['expect', 'READY> '],
      ['send', `kube-ipvs ${line}\x14`],
      ['expect', 'END'],
      ['hangup'],
    ]
    const { output } = await inTerminal(steps, ['zsh', '-i'], { ZDOTDIR: folder, HISTFILE: '' })
    return output.slice(output.indexOf('READY> '))
  }

  it('finds no fault in the script', () => {
    for (const syntax of [SYNTAX, WITH_ODD]) {
      writeFileSync(join(folder, 'script'), formatZsh(syntax))
      execFileSync('zsh', ['-n', join(folder, 'script')])
    }
  })

  /** A line of a list: words, and what describes all of them. */
  const LISTED = /(?<=\n)((?:\S+ +)+?)-- (.*?) *(?=\r|\x1b|$)/g
  async function list(syntax: Syntax, line: string): Promise<Map<string, string>> {
    const shown = (await complete(syntax, line)).replaceAll('\x1b[J', '')
    const lines = [...shown.matchAll(LISTED)]
    return new Map(
      lines.flatMap(([, words, text]) =>
        words!
          .trim()
          .split(/ +/)
          .map((word) => [word, text!]),
      ),
    )
  }

  for (const [line, word] of [
    ['to', 'top'],
    ['--config /x to', 'top'],
    ['--cleanup=true to', 'top'],
    ['--hostname-override get to', 'top'],
    ['top --by p', '--by pod'],
    ['top --by=p', '--by=pod'],
    ['get shop/web --output j', '--output json'],
    ['top --vip-binding r', '--vip-binding route'],
    ['completion z', 'completion zsh'],
    ['--config FOLDER/fi', '/file'],
    ['--manifests FOLDER/fu', '/functions'],
  ] as const)
    it(`completes "${line}" with ${word}`, async () => {
      expect(await complete(SYNTAX, line.replace('FOLDER', folder))).to.match(
        new RegExp(`${word}(/|\\x1b|\\s)`),
      )
    })

  it('completes as a file of fpath, too', async () => {
    expect(await complete(SYNTAX, 'top --by p', '')).to.contain('--by pod')
  })

  it('knows every command, option and flag, with its description', async () => {
    expect([...(await list(SYNTAX, ''))]).to.have.deep.members(
      SYNTAX.commands.map(({ name, description }) => [name, description]),
    )
    for (const { name, options } of SYNTAX.commands) {
      const shown = await complete(SYNTAX, `${name} -`)
      const words = shown.split(/\s+|\x1b\[J/)
      for (const { names, help } of [...SYNTAX.flags, ...options]) {
        expect(words).to.include.members(names)
        expect(shown).to.contain(`-- ${help} `)
      }
    }
  })

  it('shows texts with special characters as they are', async () => {
    expect((await list(WITH_ODD, '')).get('odd')).to.equal(ODD_TEXT)
    expect((await list(WITH_ODD, 'odd --')).get('--pick')).to.equal(ODD_TEXT)
    const shown = await complete(WITH_ODD, 'odd --pick ')
    for (const word of ODD_WORDS) expect(shown).to.contain(word.replaceAll(/[^\w:]/g, '\\$&'))
  })
})
