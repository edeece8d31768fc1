/** The manual page: what roff says of it, and what a reader finds in it. */
import { execFileSync, spawnSync } from 'node:child_process'
import { expect } from 'chai'
import packageJson from '../../package.json' with { type: 'json' }
import type { Command } from '../../src/commands/command.ts'
import { COMMANDS, DEFAULT_COMMAND, SYNTAX } from '../../src/commands/commands.ts'
import { formatManual } from '../../src/commands/syntax/manual.ts'
import { syntaxOf } from '../../src/commands/syntax/syntax.ts'

/** What roff takes for a request, an escape or another character. */
const ODD_TEXTS = ['.it is', "'no", '\\fBold\\n', '"so"', '`id`', "it's", '--', '^ ~', 'é → ▼', '.', '\\']
const ODD: Command = {
  name: 'odd',
  description: ODD_TEXTS.join(' '),
  operands: ['<what>', '[name]'],
  options: ODD_TEXTS.map((help, i) => ({ flags: `--odd-${i} <what>`, help, choices: [help] })),
  exitCodes: ODD_TEXTS.slice(0, 3),
  run: () => Promise.resolve(0),
}

function warnings(page: string): string {
  const args = ['-man', '-ww', '-z', '-Kutf8', '-Tutf8']
  return spawnSync('groff', args, { input: page, encoding: 'utf8' }).stderr
}

/** As a reader sees it, in one line. */
function rendered(page: string): string {
  const args = ['-man', '-Tutf8', '-P-c', '-P-b', '-P-u', '-rLL=400n']
  return execFileSync('groff', args, { input: page, encoding: 'utf8' }).replaceAll(/\s+/g, ' ')
}

describe('the manual page', () => {
  const page = formatManual(SYNTAX, packageJson.version)
  const odd = formatManual(syntaxOf(DEFAULT_COMMAND, [...COMMANDS, ODD]), '1.2.3')

  it('is one that roff has nothing to say of', () => {
    expect(warnings(page)).to.equal('')
    expect(warnings(odd)).to.equal('')
    expect(warnings(`${page}.NOPE\n`)).not.to.equal('')
  })

  it('names every command, option and flag, and says what each does', () => {
    const text = rendered(page)
    for (const { name, description, options } of SYNTAX.commands) {
      expect(text).to.contain(` ${name} `).and.to.contain(description)
      for (const option of options) expect(text).to.contain(option.help)
    }
    for (const { names, help } of [...SYNTAX.commands.flatMap(({ options }) => options), ...SYNTAX.flags])
      expect(text)
        .to.contain(` ${names.join(', ')}`)
        .and.to.contain(help)
    for (const name of SYNTAX.ignored) expect(text).to.contain(name)
    expect(text).to.contain('top show connections')
    expect(text).to.contain('--by what whose traffic a line is (service); one of service, pod, server')
    expect(text).to.contain('doctor 0: nothing is wrong; 1: something is wrong; 2: it could not be found out')
  })

  it('has the parts of a page of section 8', () => {
    expect(page).to.match(/^\.TH KUBE\\-IPVS 8 /)
    const heads = [...page.matchAll(/^\.SH (.*)$/gm)].map(([, head]) => head)
    expect(heads).to.deep.equal([
      ...['NAME', 'SYNOPSIS', 'DESCRIPTION', 'COMMANDS', 'FLAGS', 'EXIT STATUS', 'FILES', 'SEE ALSO'],
    ])
    expect(rendered(page)).to.contain('/run/kube-ipvs/socket').and.to.contain('ipvsadm(8)')
  })

  it('shows texts with special characters as they are', () => {
    const text = rendered(odd)
    expect(text).to.contain(`odd what [name] ${ODD_TEXTS.join(' ')} `)
    for (const [i, help] of ODD_TEXTS.entries())
      expect(text).to.contain(`--odd-${i} what ${help}; one of ${help} `)
  })
})
