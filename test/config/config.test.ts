import { expect } from 'chai'
import { ConfigError, defaultConfig, parseConfig } from '../../src/config/config.ts'
import { parseDuration } from '../../src/config/duration.ts'

const HEAD = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n'

/** What kube-proxy sets beside IPVS, by default. */
const NODE_SETTINGS = {
  bindAddress: undefined,
  bindAddressHardFail: false,
  allowExternalIps: true,
  conntrack: {
    maxPerCore: 32_768,
    min: 131_072,
    tcpEstablishedTimeoutSeconds: 86_400,
    tcpCloseWaitTimeoutSeconds: 3_600,
    tcpBeLiberal: false,
    udpTimeoutSeconds: 0,
    udpStreamTimeoutSeconds: 0,
  },
  oomScoreAdj: -999,
  verbosity: 0,
}

function faultsOf(text: string): string[] {
  try {
    parseConfig('proxy.yaml', text)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.message.split('\n')
  }
  throw new Error('expected a ConfigError')
}

describe('parseConfig', () => {
  it('has kube-proxy defaults', () => {
    expect(parseConfig('proxy.yaml', HEAD)).to.deep.include({
      config: defaultConfig(),
      warnings: [],
      unused: [],
    })
    expect(defaultConfig()).to.deep.equal({
      scheduler: 'rr',
      syncPeriodMs: 30_000,
      minSyncPeriodMs: 0,
      tcpTimeoutSeconds: 0,
      tcpFinTimeoutSeconds: 0,
      udpTimeoutSeconds: 0,
      kubeconfig: '',
      hostnameOverride: '',
      healthzBindAddress: '0.0.0.0:10256',
      metricsBindAddress: '127.0.0.1:10249',
      nodePortAddresses: [],
      clusterCidrs: [],
      detectLocalMode: 'ClusterCIDR',
      bridgeInterface: '',
      interfaceNamePrefix: '',
      masqueradeAll: false,
      masqueradeBit: 14,
      excludeCidrs: [],
      strictArp: false,
      ...NODE_SETTINGS,
    })
  })

  it("accepts kubeadm's configuration without a warning", () => {
    const text = `${HEAD}bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, udpTimeout: 0s}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, syncPeriod: 0s}
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
logging: {flushFrequency: 0, options: {json: {infoBufferSize: "0"}}, verbosity: 0}
metricsBindAddress: ""
nftables: {masqueradeAll: false}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel: {enableDSR: false}
`
    const { config, warnings } = parseConfig('proxy.yaml', text)

    expect(warnings).to.deep.equal([])
    expect(config).to.deep.equal({
      ...defaultConfig(),
      kubeconfig: '/var/lib/kube-proxy/kubeconfig.conf',
      clusterCidrs: [{ family: 'IPv4', address: '10.244.0.0', prefix: 16 }],
    })
  })

  it('reads JSON, and every field that has an effect', () => {
    const { config } = parseConfig(
      'proxy.json',
      JSON.stringify({
        apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
        kind: 'KubeProxyConfiguration',
        mode: 'ipvs',
        hostnameOverride: ' Node-1 ',
        healthzBindAddress: '::1',
        metricsBindAddress: '[::]:9000',
        nodePortAddresses: ['192.168.0.0/16', 'fd00::/8'],
        clusterCIDR: '10.244.0.0/16, fd00:10:244::/48',
        detectLocalMode: 'ClusterCIDR',
        detectLocal: { bridgeInterface: 'cni0', interfaceNamePrefix: 'veth' },
        iptables: { masqueradeAll: true, masqueradeBit: 0 },
        oomScoreAdj: -998,
        featureGates: { AllowServiceExternalIPs: false },
        ipvs: {
          excludeCIDRs: ['192.0.2.0/24', 'fd00:2::1/128'],
          strictARP: true,
          scheduler: 'wlc',
          syncPeriod: '1m',
          minSyncPeriod: '2s',
          tcpTimeout: '1h',
          tcpFinTimeout: '90s',
          udpTimeout: '1500ms',
        },
      }),
    )

    expect(config).to.deep.equal({
      scheduler: 'wlc',
      syncPeriodMs: 60_000,
      minSyncPeriodMs: 2_000,
      tcpTimeoutSeconds: 3_600,
      tcpFinTimeoutSeconds: 90,
      udpTimeoutSeconds: 1,
      kubeconfig: '',
      hostnameOverride: 'node-1',
      healthzBindAddress: '[::1]:10256',
      metricsBindAddress: '[::]:9000',
      nodePortAddresses: ['192.168.0.0/16', 'fd00::/8'],
      clusterCidrs: [
        { family: 'IPv4', address: '10.244.0.0', prefix: 16 },
        { family: 'IPv6', address: 'fd00:10:244::', prefix: 48 },
      ],
      detectLocalMode: 'ClusterCIDR',
      bridgeInterface: 'cni0',
      interfaceNamePrefix: 'veth',
      masqueradeAll: true,
      masqueradeBit: 0,
      excludeCidrs: [
        { family: 'IPv4', address: '192.0.2.0', prefix: 24 },
        { family: 'IPv6', address: 'fd00:2::1', prefix: 128 },
      ],
      strictArp: true,
      ...NODE_SETTINGS,
      oomScoreAdj: -998,
      allowExternalIps: false,
    })
  })

  it('warns of unknown fields, wherever they are, and ignores them', () => {
    const { config, warnings } = parseConfig(
      'proxy.yaml',
      `${HEAD}schedulr: lc\nipvs: {schedulr: lc, scheduler: lc}\n`,
    )

    expect(config.scheduler).to.equal('lc')
    expect(warnings).to.deep.equal([
      'unknown field "schedulr" in proxy.yaml is ignored',
      'unknown field "ipvs.schedulr" in proxy.yaml is ignored',
    ])
  })

  it('names every faulty field at once', () => {
    const text = `${HEAD}healthzBindAddress: localhost:1\nmetricsBindAddress: 127.0.0.1:99999\nhostnameOverride: [7]\nipvs: {strictARP: maybe, syncPeriod: fast, minSyncPeriod: -1s, tcpTimeout: 7}\nconntrack: 5\n`

    expect(faultsOf(text)).to.deep.equal([
      'Cannot use configuration proxy.yaml:',
      '  conntrack: expected a mapping of fields, got 5',
      '  healthzBindAddress: expected IP:port, got "localhost:1"',
      '  hostnameOverride: expected text, got [7]',
      '  ipvs.syncPeriod: expected a duration of 0 or more, such as 30s, got "fast"',
      '  ipvs.minSyncPeriod: expected a duration of 0 or more, such as 30s, got "-1s"',
      '  ipvs.strictARP: expected true or false, got "maybe"',
      '  ipvs.tcpTimeout: expected a duration of 0 or more, such as 30s, got 7',
      '  metricsBindAddress: expected IP:port, got "127.0.0.1:99999"',
    ])
  })

  it('warns of a repeated field: the last one counts', () => {
    const { config, warnings } = parseConfig('proxy.yaml', `${HEAD}ipvs:\n  scheduler: sh\n  scheduler: lc\n`)

    expect(config.scheduler).to.equal('lc')
    expect(warnings).to.deep.equal(['line 6 of proxy.yaml repeats a field: the last one counts'])
  })

  it('refuses a minimum above the period', () => {
    expect(faultsOf(`${HEAD}ipvs: {syncPeriod: 1s, minSyncPeriod: 2s}\n`)).to.deep.equal([
      'Cannot use configuration proxy.yaml:',
      '  ipvs.syncPeriod: expected at least ipvs.minSyncPeriod (2s), got "1s"',
    ])
  })

  for (const mode of ['iptables', 'nftables', '']) {
    it(`refuses mode "${mode}", naming the choice`, () => {
      expect(faultsOf(HEAD.replace('mode: ipvs', `mode: "${mode}"`))[1]).to.equal(
        `  mode: expected "ipvs", got "${mode}": kube-ipvs serves this mode only, keep kube-proxy for another`,
      )
    })
  }

  describe('of networks of Pods', () => {
    const withMode = (mode: string, cidr: string): string =>
      `${HEAD}detectLocalMode: ${mode}\nclusterCIDR: ${cidr}\ndetectLocal: {bridgeInterface: cni0, interfaceNamePrefix: veth}\n`
    const malformed = [
      '10.244.0.0/16,10.245.0.0/16',
      '10.244.0.0/99',
      'everything',
      '[10.244.0.0/16]',
      'fd00::/8,',
    ]

    for (const cidr of malformed) {
      it(`refuses ${cidr} in mode ClusterCIDR`, () => {
        const [, fault, ...others] = faultsOf(withMode('ClusterCIDR', cidr))
        expect(fault).to.match(/^ {2}clusterCIDR: expected a network such as .*, got ["[]/)
        expect(others).to.deep.equal([])
      })
    }

    for (const mode of ['NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix']) {
      it(`does not ask for them in mode ${mode}, and says so`, () => {
        for (const cidr of [...malformed, '10.244.0.0/16']) {
          const { config, document, warnings } = parseConfig('proxy.yaml', withMode(mode, cidr))
          expect(config.clusterCidrs, cidr).to.deep.equal([])
          expect(document.clusterCIDR, cidr).to.equal(cidr === '10.244.0.0/16' ? cidr : '')
          expect(warnings, cidr).to.deep.equal([
            `clusterCIDR is ignored: it has no effect with detectLocalMode ${mode}`,
          ])
        }
        expect(parseConfig('proxy.yaml', withMode(mode, '""')).warnings).to.deep.equal([])
      })
    }

    it('names them with the mode, where nobody knows the mode', () => {
      expect(faultsOf(withMode('Guess', 'everything'))).to.have.length(3)
    })
  })

  describe('of what has no effect', () => {
    const ignored: readonly [string, readonly string[]][] = [
      ['clientConnection: {qps: -1}', ['clientConnection.qps']],
      ['nftables: {syncPeriod: soon}', ['nftables.syncPeriod']],
      ['nftables: [a, list]', ['nftables']],
      ['winkernel: nothing', ['winkernel']],
      ['logging: {vmodule: "a=1"}', ['logging.vmodule']],
      ['logging: {vmodule: [{filePattern: "", verbosity: x}]}', ['logging.vmodule']],
      ['logging: {options: 7, flushFrequency: true}', ['logging.flushFrequency', 'logging.options']],
      ['configSyncPeriod: {a: b}', ['configSyncPeriod']],
      ['enableProfiling: "true"', ['enableProfiling']],
      ['featureGates: {Whatever: "true"}', ['featureGates.Whatever']],
      ['featureGates: {"What.Ever": 7}', ['featureGates.What.Ever']],
      ['detectLocal: 7', ['detectLocal']],
      ['detectLocal: {bridgeInterface: [cni0]}', ['detectLocal.bridgeInterface']],
      [
        'detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0, interfaceNamePrefix: {}}',
        ['detectLocal.interfaceNamePrefix'],
      ],
    ]
    for (const [text, unused] of ignored) {
      it(`takes ${text}, and publishes the default`, () => {
        const loaded = parseConfig('proxy.yaml', HEAD + text)
        expect(loaded.warnings).to.deep.equal([])
        expect(loaded.unused).to.deep.equal(unused)
        const chosen = text.includes('BridgeInterface')
          ? 'detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: cni0}'
          : ''
        expect(loaded.document).to.deep.equal(parseConfig('proxy.yaml', HEAD + chosen).document)
      })
    }

    it('takes vmodule with JSON', () => {
      const text = 'logging: {format: json, vmodule: [{filePattern: a, verbosity: 1}]}'
      expect(parseConfig('proxy.yaml', HEAD + text).unused).to.deep.equal([
        'logging.format',
        'logging.vmodule',
      ])
    })

    it('leaves out no more than that', () => {
      const text = 'nftables: {masqueradeBit: 9, syncPeriod: soon}\nfeatureGates: {A: 7, B: true}'
      const { document } = parseConfig('proxy.yaml', HEAD + text)
      expect(document.nftables).to.include({ masqueradeBit: 9, syncPeriod: '0s' })
      expect(document.featureGates).to.deep.equal({ B: true })
    })

    const refused: readonly [string, string][] = [
      [
        'detectLocalMode: BridgeInterface\ndetectLocal: 7',
        '  detectLocal: expected a mapping of fields, got 7',
      ],
      [
        'featureGates: {AllowServiceExternalIPs: "false"}',
        '  featureGates.AllowServiceExternalIPs: expected true or false, got "false"',
      ],
      ['featureGates: 7', '  featureGates: expected names of gates with true or false, got 7'],
      ['logging: 7', '  logging: expected a mapping of fields, got 7'],
    ]
    for (const [text, fault] of refused) {
      it(`refuses ${text.replace('\n', ', ')}: a part of it counts`, () => {
        expect(faultsOf(HEAD + text).slice(1)).to.deep.equal([fault])
      })
    }
  })

  it('takes a number or a boolean for text where text is wanted', () => {
    const text =
      'hostnameOverride: 12345\nipvs: {scheduler: no}\ndetectLocal: {interfaceNamePrefix: 1.5}\nportRange: 0\n'
    const { document } = parseConfig('proxy.yaml', HEAD + text)
    expect(document).to.deep.include({ hostnameOverride: '12345', portRange: '0' })
    expect(document.ipvs.scheduler).to.equal('false')
    expect(document.detectLocal.interfaceNamePrefix).to.equal('1.5')
  })
})

describe('parseDuration', () => {
  const cases: readonly [string, number | undefined][] = [
    ['0', 0],
    ['0s', 0],
    ['30s', 30_000],
    ['1h15m30.5s', 4_530_500],
    ['250ms', 250],
    ['1.5h', 5_400_000],
    ['.5s', 500],
    ['1us', 0.001],
    ['-1s', -1_000],
    ['', undefined],
    ['s', undefined],
    ['30', undefined],
    ['30 s', undefined],
    ['1d', undefined],
    ['fast', undefined],
    ['1s1', undefined],
  ]
  for (const [text, ms] of cases) {
    it(`${ms === undefined ? 'rejects' : 'reads'} "${text}"`, () => {
      expect(parseDuration(text)).to.equal(ms)
    })
  }
})
