/** Which command is asked for: by a flag of kube-proxy's, by its name, or by nothing else. */
import { expect } from 'chai'
import { commandOf, parseCommandLine } from '../../src/command-line.ts'
import type { Command, CommandLine } from '../../src/commands/command.ts'
import { COMMANDS, DEFAULT_COMMAND } from '../../src/commands/commands.ts'

function parse(args: readonly string[], commands?: readonly Command[]): CommandLine {
  const fail = (error: Error): never => {
    throw error
  }
  return parseCommandLine(['node', 'kube-ipvs', ...args], fail, commands)
}

describe('the table of commands', () => {
  it('has every name and every flag once', () => {
    const all = [DEFAULT_COMMAND, ...COMMANDS]
    const names = all.map(({ name }) => name)
    const flags = all.flatMap(({ flag }) => flag?.name ?? [])
    expect(names).to.have.members([
      'run',
      'plan',
      'get',
      'explain',
      'diff',
      'doctor',
      'report',
      'top',
      'trace',
      'drain',
      'undrain',
      'completion',
      'cleanup',
      'init',
      'writeConfig',
    ])
    expect(flags).to.have.members(['cleanup', 'init-only', 'write-config-to'])
  })

  const table: readonly (readonly [string, readonly string[], string])[] = [
    ['nothing else', [], 'run'],
    ['its name', ['plan'], 'plan'],
    ['its name, which flags of others do not change', ['plan', '--cleanup'], 'plan'],
    ['its flag', ['--init-only'], 'init'],
    [
      'the flag that only writes a file, before all others',
      ['--cleanup', '--write-config-to=x'],
      'writeConfig',
    ],
    ['the same, whatever the others say', ['--cleanup=maybe', '--write-config-to=x'], 'writeConfig'],
    ['cleanup, before what prepares a node', ['--init-only', '--cleanup'], 'cleanup'],
  ]
  for (const [how, args, name] of table) {
    it(`${name} is asked for by ${how}: "${args.join(' ')}"`, () => {
      expect(commandOf(parse(args)).name).to.equal(name)
    })
  }

  it('refuses a word that is neither yes nor no: it must not clean up a node, nor serve on it', () => {
    expect(() => parse(['--cleanup=maybe'])).to.throw('Cannot use --cleanup: expected true or false')
    expect(() => parse(['--init-only='])).to.throw('Cannot use --init-only')
  })

  it('gives a subcommand that is added to it its operands, and refuses what it does not take', () => {
    const get: Command = {
      name: 'get',
      description: 'print what is served',
      operands: ['<what>', '[name]'],
      run: () => Promise.resolve('stopped'),
    }
    const commands = [...COMMANDS.filter(({ name }) => name !== 'get'), get]
    const { action, operands, configFile } = parse(['get', 'services', 'shop/web', '--config=/c'], commands)
    expect({ action, operands, configFile }).to.deep.equal({
      action: 'get',
      operands: ['services', 'shop/web'],
      configFile: '/c',
    })
    expect(() => parse(['get'], commands)).to.throw("missing required argument 'what'")
    expect(() => parse(['get', 'a', 'b', 'c'], commands)).to.throw('too many arguments')
    expect(() => parse(['plan', 'a'], commands)).to.throw('too many arguments')
    expect(() => parse(['services'], commands)).to.throw('too many arguments')
  })
})
