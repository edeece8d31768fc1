/** What commands read before they do anything, and what stops them. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { parse } from 'yaml'
import { parseCommandLine } from '../../src/command-line.ts'
import { attemptAll, type CleanupOptions, runCleanup } from '../../src/commands/cleanup.ts'
import type { CommandContext } from '../../src/commands/command.ts'
import { readProgramOptions } from '../../src/commands/configuration.ts'
import { PLAN } from '../../src/commands/plan.ts'
import { RUN } from '../../src/commands/run.ts'
import { WRITE_CONFIG } from '../../src/commands/write-config.ts'
import { recordingLog } from '../support/log.ts'
import { rejectionOf } from '../support/rejection.ts'

const CONFIG = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
ipvs: {scheduler: lc, excludeCIDRs: [192.0.2.0/24]}
`
const POLICY = `apiVersion: kube-ipvs.io/v1alpha1
kind: ExternalAddressPolicy
namespaces: {shop: [192.0.2.0/24]}
`

describe('commands', () => {
  let folder: string
  let config: string
  let policy: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    config = join(folder, 'config.conf')
    policy = join(folder, 'external-addresses.yaml')
    writeFileSync(config, CONFIG)
  })
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  function contextOf(...args: readonly string[]) {
    const { log, lines } = recordingLog('info')
    const commandLine = parseCommandLine(['node', 'kube-ipvs', `--config=${config}`, ...args])
    const context: CommandContext = { commandLine, log, signal: new AbortController().signal }
    return { context, log, lines }
  }
  const cleaned = async (context: CommandContext): Promise<CleanupOptions[]> => {
    const seen: CleanupOptions[] = []
    await runCleanup(context, (options) => Promise.resolve(void seen.push(options)))
    return seen
  }

  it('--cleanup takes the configuration, and is not stopped by a list beside it that is broken', async () => {
    writeFileSync(policy, 'nonsense: [')
    const [options, ...others] = await cleaned(contextOf('--cleanup').context)
    expect(options!.config.excludeCidrs).to.have.length(1)
    expect(others).to.deep.equal([])
  })

  it('--cleanup is stopped by a configuration that is broken: what must stay may be in it', async () => {
    writeFileSync(config, 'mode: [')
    expect(await rejectionOf(cleaned(contextOf('--cleanup').context))).to.have.property('name', 'ConfigError')
  })

  it('every part of a clean-up is attempted, and all that went wrong is told', async () => {
    const done: string[] = []
    const part = (name: string, fails: boolean) => () => {
      done.push(name)
      return fails ? Promise.reject(new Error(name)) : Promise.resolve()
    }
    const error = await rejectionOf(
      attemptAll([part('servers', true), part('interface', false), part('sets', true)]),
    )
    expect(done).to.deep.equal(['servers', 'interface', 'sets'])
    expect(error).to.have.property('message', 'Cannot clean up everything')
    expect((error as AggregateError).errors.map(({ message }: Error) => message)).to.deep.equal([
      'servers',
      'sets',
    ])
    await attemptAll([part('servers', false)])
  })

  it('--write-config-to writes every field', async () => {
    const to = join(folder, 'written.yaml')
    expect(await WRITE_CONFIG.run(contextOf(`--write-config-to=${to}`).context)).to.equal('stopped')
    const written = parse(readFileSync(to, 'utf8')) as { ipvs: object; healthzBindAddress: string }
    expect(written.ipvs).to.include({ scheduler: 'lc', syncPeriod: '30s' })
    expect(written.healthzBindAddress).to.equal('0.0.0.0:10256')
  })

  it('--write-config-to checks the list beside the configuration, too, and then writes nothing', async () => {
    writeFileSync(policy, 'nonsense: [')
    const to = join(folder, 'written.yaml')
    const error = await rejectionOf(WRITE_CONFIG.run(contextOf(`--write-config-to=${to}`).context))
    expect((error as Error).message).to.contain(policy)
    expect(existsSync(to)).to.equal(false)
  })

  for (const command of [RUN, PLAN]) {
    it(`${command.name} does not begin with a list that is broken`, async () => {
      writeFileSync(policy, 'nonsense: [')
      const error = await rejectionOf(command.run(contextOf().context))
      expect((error as Error).message).to.contain(policy)
    })
  }

  it('a configuration that cannot be read is named', async () => {
    rmSync(config)
    const { message } = (await rejectionOf(readProgramOptions(contextOf().context))) as Error
    expect(message).to.match(/^Cannot read configuration .*config\.conf: ENOENT/)
  })

  it('what the program runs with is of the file, the list beside it, and the flags', async () => {
    writeFileSync(policy, POLICY)
    const { context, log } = contextOf('--manifests=/m', '--hostname-override=Node-7', '-v=4')
    const options = await readProgramOptions(context)

    expect(options.loaded.config.scheduler).to.equal('lc')
    expect(options.configFile).to.include({ path: config, text: CONFIG })
    expect([...options.policy!.policy!.keys()]).to.deep.equal(['shop'])
    expect(options.naming).to.deep.equal({ name: 'node-7', source: '--hostname-override' })
    expect(options.choice).to.deep.equal({ manifests: '/m', master: undefined, kubeconfig: '' })
    expect(log.level).to.equal('debug')
    // A new text is read as the first was, flags of the log included.
    expect(options.configFile!.load(CONFIG.replace('lc', 'sh')).config).to.include({
      scheduler: 'sh',
      verbosity: 4,
    })
  })

  const levels: readonly (readonly [number, string])[] = [
    [0, 'info'],
    [3, 'info'],
    [4, 'debug'],
    [5, 'debug'],
    [6, 'trace'],
  ]
  for (const [verbosity, level] of levels) {
    it(`verbosity ${verbosity} is the level ${level} of the log`, async () => {
      const { context, log } = contextOf(`-v=${verbosity}`)
      await readProgramOptions(context)
      expect(log.level).to.equal(level)
    })
  }

  it('what is ignored is said', async () => {
    const { context, lines } = contextOf('--ipvs-scheduler=sh')
    await readProgramOptions(context)
    expect(lines.map(({ level, msg }) => [level, msg])).to.deep.equal([
      [40, `--ipvs-scheduler: ignored, as ${config} is the configuration`],
    ])
  })
})
