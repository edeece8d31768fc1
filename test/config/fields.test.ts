/** Every field and every flag of kube-proxy's configuration: its default, a value that is taken, one that is refused. */
import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { FLAG_NAMES, parseCommandLine } from '../../src/command-line.ts'
import { loadConfig } from '../../src/commands/configuration.ts'
import { ConfigError, type LoadedConfig, parseConfig } from '../../src/config/config.ts'
import { FIELD_FLAGS, FLAGS_WITHOUT_EFFECT, LOGGING_FLAGS } from '../../src/config/flags.ts'
import { fieldPaths, valueAt, WITHOUT_EFFECT } from '../../src/config/schema.ts'
import { withRandom } from '../support/random.ts'

const HEAD = { apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration', mode: 'ipvs' }
const load = (document: object): LoadedConfig => parseConfig('proxy.yaml', JSON.stringify(document))

/** A document with one field. */
function withField(path: string, value: unknown): object {
  const [first, ...rest] = path.split('.').reverse()
  const inner: object = rest.reduce<object>((object, name) => ({ [name]: object }), { [first!]: value })
  return { ...HEAD, ...inner }
}

function faults(act: () => unknown): string[] {
  try {
    act()
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.message.split('\n').slice(1)
  }
  return []
}

/** The default; a value that is taken, and what it becomes in the document; one that is no such value, and why. */
type Row = readonly [string, unknown, unknown, unknown, unknown, string]

const DURATION = 'a duration of 0 or more, such as 30s'
const BOOLEAN = 'true or false'
const NETWORK = 'a network such as 192.0.2.0/24'

// prettier-ignore
const FIELDS: readonly Row[] = [
  ['apiVersion', HEAD.apiVersion, HEAD.apiVersion, HEAD.apiVersion, 'v1', '"kubeproxy.config.k8s.io/v1alpha1", got "v1"'],
  ['mode', 'ipvs', 'ipvs', 'ipvs', 'nftables', '"ipvs", got "nftables": kube-ipvs serves this mode only, keep kube-proxy for another'],
  ['bindAddress', '0.0.0.0', '010.0.0.1', '10.0.0.1', 'localhost', 'an IP address'],
  ['bindAddressHardFail', false, true, true, 'yes', BOOLEAN],
  ['clientConnection.kubeconfig', '', '/etc/kubeconfig', '/etc/kubeconfig', [7], 'text'],
  ['clientConnection.acceptContentTypes', '', 'application/json', 'application/json', [7], 'text'],
  ['clientConnection.contentType', 'application/vnd.kubernetes.protobuf', 'application/json', 'application/json', [7], 'text'],
  ['clientConnection.qps', 5, 12.5, 12.5, 'many', 'a number of 0 or more'],
  ['clientConnection.burst', 10, 20, 20, -1, 'a number of 0 or more'],
  ['clusterCIDR', '', '10.244.0.0/16, fd00::/48', '10.244.0.0/16,fd00::/48', '10.0.0.0/8,11.0.0.0/8', `${NETWORK}, or one of each family separated by a comma`],
  ['configSyncPeriod', '15m0s', '1h', '1h0m0s', '1 hour', DURATION],
  ['conntrack.maxPerCore', 32_768, 0, 0, -1, 'a whole number from 0 to 2147483647'],
  ['conntrack.min', 131_072, 1, 1, 1.5, 'a whole number from 0 to 2147483647'],
  ['conntrack.tcpEstablishedTimeout', '24h0m0s', '90m', '1h30m0s', '-1s', DURATION],
  ['conntrack.tcpCloseWaitTimeout', '1h0m0s', '0s', '0s', 'soon', DURATION],
  ['conntrack.tcpBeLiberal', false, true, true, 'true', BOOLEAN],
  ['conntrack.udpTimeout', '0s', '30s', '30s', 30, DURATION],
  ['conntrack.udpStreamTimeout', '0s', '3m', '3m0s', '3', DURATION],
  ['detectLocal.bridgeInterface', '', 'cni0', 'cni0', [7], 'text'],
  ['detectLocal.interfaceNamePrefix', '', 'veth', 'veth', [7], 'text'],
  ['detectLocalMode', 'ClusterCIDR', 'NodeCIDR', 'NodeCIDR', 'Guess', 'one of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix'],
  ['enableProfiling', false, true, true, 'on', BOOLEAN],
  ['featureGates', {}, { AllowServiceExternalIPs: false, Whatever: true }, { AllowServiceExternalIPs: false, Whatever: true }, { AllowServiceExternalIPs: 'true' }, 'true or false, got "true"'],
  ['healthzBindAddress', '0.0.0.0:10256', '::1', '[::1]:10256', 'localhost:1', 'IP:port'],
  ['hostnameOverride', '', ' Node-1 ', 'Node-1', [7], 'text'],
  ['iptables.masqueradeAll', false, true, true, 'all', BOOLEAN],
  ['iptables.masqueradeBit', 14, 31, 31, 32, 'a whole number from 0 to 31'],
  ['iptables.localhostNodePorts', true, false, false, 'no', BOOLEAN],
  ['iptables.syncPeriod', '0s', '30s', '0s', 'x', DURATION],
  ['iptables.minSyncPeriod', '0s', '1s', '0s', 'x', DURATION],
  ['ipvs.scheduler', 'rr', 'wlc', 'wlc', [7], 'text'],
  ['ipvs.syncPeriod', '30s', '0s', '30s', 'fast', DURATION],
  ['ipvs.minSyncPeriod', '0s', '1500ms', '1.5s', '-1s', DURATION],
  ['ipvs.excludeCIDRs', [], ['192.0.2.7/24', ' fd00::1/128'], ['192.0.2.0/24', 'fd00::1/128'], ['192.0.2.1'], `${NETWORK}, got "192.0.2.1"`],
  ['ipvs.strictARP', false, true, true, 1, BOOLEAN],
  ['ipvs.tcpTimeout', '0s', '2h', '2h0m0s', '2 h', DURATION],
  ['ipvs.tcpFinTimeout', '0s', '2m', '2m0s', '', DURATION],
  ['ipvs.udpTimeout', '0s', '5m30s', '5m30s', '5', DURATION],
  ['logging.format', 'text', 'json', 'json', 'xml', 'one of text, json'],
  ['logging.flushFrequency', '5s', 10_000_000_000, '10s', 'often', DURATION],
  ['logging.verbosity', 0, 6, 6, -1, 'a whole number from 0 to 2147483647'],
  ['logging.vmodule', [], [{ filePattern: 'a', verbosity: 2 }], [{ filePattern: 'a', verbosity: 2 }], [{ filePattern: '', verbosity: 2 }], 'a list of filePattern and verbosity'],
  ['logging.options.text.splitStream', false, true, true, 'x', BOOLEAN],
  ['logging.options.text.infoBufferSize', '0', '10Mi', '10Mi', true, 'a quantity such as 10Mi'],
  ['logging.options.json.splitStream', false, true, true, 'x', BOOLEAN],
  ['logging.options.json.infoBufferSize', '0', 1024, '1024', true, 'a quantity such as 10Mi'],
  ['metricsBindAddress', '127.0.0.1:10249', '[::]:9000', '[::]:9000', '127.0.0.1:99999', 'IP:port'],
  ['nftables.masqueradeAll', false, true, true, 'x', BOOLEAN],
  ['nftables.masqueradeBit', 14, 1, 1, -1, 'a whole number from 0 to 31'],
  ['nftables.syncPeriod', '0s', '30s', '0s', 'x', DURATION],
  ['nftables.minSyncPeriod', '0s', '1s', '0s', 'x', DURATION],
  ['nodePortAddresses', [], ['primary'], ['primary'], ['primary', '10.0.0.0/8'], '"primary" alone, or networks'],
  ['oomScoreAdj', -999, -998, -998, -1001, 'a whole number from -1000 to 1000'],
  ['portRange', '', '1-2', '1-2', [7], 'text'],
  ['showHiddenMetricsForVersion', '', '1.35', '1.35', [7], 'text'],
  ['windowsRunAsService', false, true, true, 'x', BOOLEAN],
  ['winkernel.networkName', '', 'n', 'n', [7], 'text'],
  ['winkernel.sourceVip', '', '192.0.2.1', '192.0.2.1', [7], 'text'],
  ['winkernel.enableDSR', false, true, true, 'x', BOOLEAN],
  ['winkernel.rootHnsEndpointName', '', 'n', 'n', [7], 'text'],
  ['winkernel.forwardHealthCheckVip', false, true, true, 'x', BOOLEAN],
]

/** In a document that chooses no mode. */
const isIdle = (path: string): boolean => WITHOUT_EFFECT.includes(path) || path.startsWith('detectLocal.')

describe('the fields of KubeProxyConfiguration', () => {
  it('are all in this table, but for the kind, without which nothing is read', () => {
    expect(['kind', ...FIELDS.map(([path]) => path)]).to.have.members(fieldPaths())
  })

  it('have a place in docs/configuration.md', () => {
    const text = readFileSync('docs/configuration.md', 'utf8')
    const part = text.slice(text.indexOf('\n## Fields\n'), text.indexOf('\n## external-addresses.yaml\n'))
    const listed = [...part.matchAll(/^(?:-|\|) `([\w.]+)`/gm)].map((match) => match[1]!)
    expect(listed).to.have.members(fieldPaths())
    const after = part.slice(part.indexOf('These have no effect:'))
    const idle = [...after.matchAll(/^\| `([\w.]+)` +\|/gm)].map((match) => match[1]!)
    expect(idle).to.have.members([...WITHOUT_EFFECT])
  })

  for (const [path, byDefault, accepted, becomes, wrong, what] of FIELDS) {
    it(path, () => {
      const { document } = load(HEAD)
      expect(valueAt(document, path), 'default').to.deep.equal(byDefault)
      if (!(path in HEAD)) {
        expect(valueAt(load(withField(path, null)).document, path), 'null').to.deep.equal(byDefault)
      }
      const loaded = load(withField(path, accepted))
      expect(valueAt(loaded.document, path), 'accepted').to.deep.equal(becomes)
      expect(loaded.warnings).to.deep.equal([])
      const isUnused = WITHOUT_EFFECT.includes(path) && JSON.stringify(becomes) !== JSON.stringify(byDefault)
      expect(loaded.unused, 'unused').to.deep.equal(isUnused ? [path] : [])
      if (isIdle(path)) {
        const idle = load(withField(path, wrong))
        expect(valueAt(idle.document, path), 'wrong and without effect').to.deep.equal(byDefault)
        expect(idle.unused).to.deep.equal([path])
        expect(idle.warnings).to.deep.equal([])
        return
      }
      const [fault, ...others] = faults(() => load(withField(path, wrong)))
      expect(others).to.deep.equal([])
      expect(fault, 'refused').to.match(new RegExp(`^  ${path}(\\.\\w+)*: expected `))
      const found = what.includes(', got ') ? '' : `, got ${JSON.stringify(wrong)}`
      expect(fault!.endsWith(`: expected ${what}${found}`), `${fault} ends with ${what}`).to.equal(true)
    })
  }

  it('are published as they are read: a document resolves to itself', () =>
    withRandom((random) => {
      for (let i = 0; i < 200; i++) {
        const chosen = FIELDS.filter(([path]) => !(path in HEAD) && random.chance(0.3))
        const document = chosen.reduce<Record<string, unknown>>(
          (merged, [path, , value]) => merge(merged, withField(path, value)),
          HEAD,
        )
        if (document.detectLocalMode === undefined) document.detectLocalMode = 'NodeCIDR'
        const loaded = faults(() => load(document)).length > 0 ? load(HEAD) : load(document)
        const again = load(loaded.document)
        expect(again.document).to.deep.equal(loaded.document)
        expect(again.config).to.deep.equal(loaded.config)
      }
    }))

  it('name each other where they contradict each other, whatever else is wrong', () => {
    expect(
      faults(() =>
        load({
          ...HEAD,
          detectLocalMode: 'BridgeInterface',
          oomScoreAdj: 7_000,
          ipvs: { syncPeriod: '1s', minSyncPeriod: '2s', tcpTimeout: 'x' },
          logging: { format: 'json', vmodule: [{ filePattern: 'a', verbosity: 1 }] },
        }),
      ),
    ).to.deep.equal([
      `  ipvs.tcpTimeout: expected ${DURATION}, got "x"`,
      '  oomScoreAdj: expected a whole number from -1000 to 1000, got 7000',
      '  ipvs.syncPeriod: expected at least ipvs.minSyncPeriod (2s), got "1s"',
      '  detectLocal.bridgeInterface: expected the name of an interface in mode BridgeInterface, got nothing',
    ])
  })

  it('choose the family of the listening addresses', () => {
    expect(load(withField('bindAddress', '::')).document).to.deep.include({
      healthzBindAddress: '[::]:10256',
      metricsBindAddress: '[::1]:10249',
    })
  })
})

type Json = Record<string, unknown>

function merge(a: Json, b: object): Json {
  const merged: Json = { ...a }
  for (const [name, value] of Object.entries(b) as [string, unknown][]) {
    const before = merged[name]
    const areObjects = [before, value].every(
      (one) => typeof one === 'object' && one !== null && !Array.isArray(one),
    )
    merged[name] = areObjects ? merge(before as Json, value as object) : value
  }
  return merged
}

// --- Flags ----------------------------------------------------------------------------------------------

const parse = (...args: readonly string[]) =>
  parseCommandLine(['node', 'kube-ipvs', ...args], (error) => {
    throw error
  })
const loadFlags = (...args: readonly string[]): LoadedConfig => loadConfig(parse(...args), undefined)

describe('the flags that stand for fields', () => {
  it('stand for fields that there are', () => {
    const fields = [...FIELD_FLAGS, ...LOGGING_FLAGS].map(({ field }) => field)
    expect(fieldPaths()).to.include.members(fields)
    expect(new Set(fields).size).to.equal(fields.length)
  })

  it('have a place in docs/configuration.md, with all others', () => {
    const text = readFileSync('docs/configuration.md', 'utf8')
    const listed = [...text.matchAll(/`--([\w-]+)`/g)].map((match) => match[1]!)
    expect([...new Set(listed)]).to.have.members([...FLAG_NAMES, 'version', 'help'])
  })

  for (const { name, field, kind } of [...FIELD_FLAGS, ...LOGGING_FLAGS]) {
    const [, byDefault, accepted, becomes, refused] = FIELDS.find(([path]) => path === field)!
    const texts: Readonly<Record<string, string>> = {
      gates: 'AllowServiceExternalIPs=false,Whatever=true',
      vmodule: 'a=2',
      'log-flush-frequency': '10s',
    }
    const text =
      texts[name] ?? texts[kind] ?? (Array.isArray(accepted) ? accepted.join(',') : String(accepted))

    it(`--${name}`, () => {
      expect(valueAt(loadFlags().document, field), 'default').to.deep.equal(byDefault)
      const expected = kind === 'gates' ? { AllowServiceExternalIPs: false, Whatever: true } : becomes
      expect(valueAt(loadFlags(`--${name}=${text}`).document, field), 'with =').to.deep.equal(expected)
      if (kind !== 'flag') {
        expect(valueAt(loadFlags(`--${name}`, text).document, field), 'with a space').to.deep.equal(expected)
      } else {
        expect(valueAt(loadFlags(`--${name}`).document, field), 'alone').to.equal(true)
        expect(valueAt(loadFlags(`--${name}=false`).document, field), '=false').to.equal(false)
      }
    })

    // What is text in the file may be any text.
    const wrong = { gates: 'AllowServiceExternalIPs=maybe', flag: 'maybe', number: 'x', list: 'x' }
    const argument = kind === 'text' ? refused : name === 'vmodule' ? '=x' : wrong[kind]
    if (typeof argument !== 'string') continue
    if (isIdle(field)) {
      it(`--${name} is never refused, as it has no effect`, () => {
        const { document, unused } = loadFlags(`--${name}=${argument}`)
        expect(valueAt(document, field)).to.deep.equal(byDefault)
        expect(unused).to.deep.equal([`--${name}`])
      })
      continue
    }
    it(`--${name} names itself when it is wrong`, () => {
      const [fault, ...others] = faults(() => loadFlags(`--${name}=${argument}`))
      expect(fault).to.match(new RegExp(`^  --${name}: expected .+, got "`))
      expect(others).to.deep.equal([])
    })
  }
})

describe('the command line', () => {
  const FILE = JSON.stringify({ ...HEAD, ipvs: { scheduler: 'lc' }, logging: { verbosity: 2 } })

  it('with a file: its fields count, but for the flags of the log', () => {
    const { config, warnings } = loadConfig(
      parse('--config=/x', '--ipvs-scheduler=sh', '--healthz-port=1', '-v=4', '--vmodule=a=1'),
      FILE,
    )
    expect(config.scheduler).to.equal('lc')
    expect(config.verbosity).to.equal(4)
    expect(warnings).to.deep.equal(['--ipvs-scheduler, --healthz-port: ignored, as /x is the configuration'])
  })

  it('takes -v in all forms', () => {
    for (const form of [['-v=4'], ['-v4'], ['-v', '4'], ['--v=4'], ['--v', '4']])
      expect(loadFlags(...form).config.verbosity, form.join(' ')).to.equal(4)
  })

  it('takes the last of several, and all of a list', () => {
    expect(loadFlags('--ipvs-scheduler=a', '--ipvs-scheduler=b').config.scheduler).to.equal('b')
    const args = ['--nodeport-addresses=10.0.0.0/8,11.0.0.0/8', '--nodeport-addresses=fd00::/8']
    expect(loadFlags(...args).config.nodePortAddresses).to.have.length(3)
  })

  const actions: readonly [readonly string[], string][] = [
    [[], 'run'],
    [['plan'], 'plan'],
    [['plan', '--manifests=/m'], 'plan'],
    [['--manifests', '/m', 'plan'], 'plan'],
    [['--cleanup'], 'cleanup'],
    [['--cleanup=true'], 'cleanup'],
    [['--cleanup', '--cleanup=F'], 'run'],
    [['--cleanup=false'], 'run'],
    [['--init-only'], 'init'],
    [['--write-config-to=/tmp/x'], 'writeConfig'],
  ]
  for (const [args, action] of actions) {
    it(`"${args.join(' ')}" is to ${action}`, () => expect(parse(...args).action).to.equal(action))
  }

  it('has what is no field', () => {
    expect(
      parse('--config=/c', '--manifests=/m', '--master=https://a', '--hostname-override= Node-1 '),
    ).to.deep.include({ configFile: '/c', manifests: '/m', master: 'https://a', hostnameOverride: 'node-1' })
    expect(() => parse('--hostname-override= ')).to.throw('--hostname-override')
  })

  it('takes flags of old manifests, and says that they have no effect', () => {
    for (const name of FLAGS_WITHOUT_EFFECT) {
      expect(loadFlags(`--${name}=x`).unused, name).to.deep.equal([`--${name}`])
      expect(loadFlags(`--${name.replaceAll('-', '_')}`).unused, name).to.deep.equal([`--${name}`])
    }
  })

  it('has the deprecated ports', () => {
    expect(loadFlags('--healthz-port=1').config.healthzBindAddress).to.equal('0.0.0.0:1')
    expect(loadFlags('--healthz-port=1', '--healthz-bind-address=::1').config.healthzBindAddress).to.equal(
      '[::1]:1',
    )
    expect(
      loadFlags('--healthz-port=1', '--healthz-bind-address=192.0.2.1:2').config.healthzBindAddress,
    ).to.equal('192.0.2.1:2')
    expect(loadFlags('--healthz-port=0').config.healthzBindAddress).to.equal('')
    expect(loadFlags('--metrics-port=1').config.metricsBindAddress).to.equal('127.0.0.1:1')
    expect(faults(() => loadFlags('--metrics-port=0'))).to.deep.equal([
      '  --metrics-bind-address: expected IP:port, got "127.0.0.1:0"',
    ])
  })

  for (const text of ['no', 'off', 'maybe', 'tRUE', ''])
    it(`does not take "${text}" for a word to clean up a node, or prepare it`, () => {
      for (const flag of ['cleanup', 'init-only'])
        expect(() => parse(`--${flag}=${text}`)).to.throw(
          `Cannot use --${flag}: expected true or false, got "${text}"`,
        )
    })

  it('refuses what it does not know', () => {
    for (const args of [['positional'], ['--nope'], ['plan', 'b'], ['--config']])
      expect(() => parse(...args), args.join(' ')).to.throw()
  })

  it('refuses another mode', () => {
    expect(faults(() => loadFlags('--proxy-mode=iptables'))[0]).to.contain('--proxy-mode: expected "ipvs"')
  })
})
