/** Files in the forms that kube-proxy reads: its first YAML document, as goyaml.v2 understands it. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { ConfigError, type LoadedConfig, parseConfig } from '../../src/config/config.ts'
import { valueAt } from '../../src/config/schema.ts'
import { readYaml } from '../../src/config/yaml.ts'

const HEAD = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n'
const load = (text: string): LoadedConfig => parseConfig('proxy.yaml', text)
const valueOf = (text: string): unknown => readYaml('proxy.yaml', text).value

function refusal(text: string): string {
  try {
    load(text)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.message
  }
  throw new Error('expected a ConfigError')
}

/** A file of public reports, what it says, and the warnings. */
type File = readonly [string, Readonly<Record<string, unknown>>, readonly string[]]

const unknown = (field: string): string => `unknown field "${field}" in proxy.yaml is ignored`

const FILES: readonly File[] = [
  ['trailing-separator', { 'ipvs.scheduler': 'rr' }, []],
  [
    'kubeadm-all-in-one',
    { 'ipvs.strictARP': true },
    ['line 6 of proxy.yaml begins another document: only the first is read'],
  ],
  ['yaml11', { 'ipvs.strictARP': true, 'iptables.masqueradeAll': false, bindAddressHardFail: false }, []],
  [
    'anchors',
    { 'ipvs.minSyncPeriod': '2s', 'ipvs.syncPeriod': '45s', 'ipvs.scheduler': 'rr' },
    [unknown('x-periods')],
  ],
  ['crlf', { 'ipvs.scheduler': 'sh' }, []],
  ['bom', { mode: 'ipvs', 'ipvs.scheduler': 'rr' }, []],
  ['trailing-dots', { 'ipvs.scheduler': 'lc' }, []],
  [
    'binary-guide',
    { 'ipvs.minSyncPeriod': '5s', 'iptables.masqueradeAll': false, oomScoreAdj: -999 },
    [unknown('conntrack.max'), unknown('ipvs.masqueradeAll'), unknown('udpIdleTimeout')],
  ],
  [
    'eks-roadmap',
    { 'ipvs.scheduler': 'lc', oomScoreAdj: -998, 'ipvs.excludeCIDRs': [] },
    [unknown('conntrack.max'), unknown('resourceContainer'), unknown('udpIdleTimeout')],
  ],
  [
    'invented-stanzas',
    { 'ipvs.scheduler': 'rr', bindAddress: '192.168.50.1', hostnameOverride: 'K8S-Master-01' },
    [unknown('kubeProxyIPTablesConfiguration'), unknown('kubeProxyIPVSConfiguration')],
  ],
  [
    'kubekey-nulls',
    { 'ipvs.strictARP': false, clusterCIDR: '10.233.64.0/18', 'clientConnection.kubeconfig': '' },
    [],
  ],
  [
    'two-pools-by-interface',
    { clusterCIDR: '', 'detectLocal.interfaceNamePrefix': 'cali' },
    ['clusterCIDR is ignored: it has no effect with detectLocalMode InterfaceNamePrefix'],
  ],
  ['unlimited-qps', { 'clientConnection.qps': 5, 'clientConnection.burst': 10 }, []],
]

describe('files of public reports', () => {
  for (const [name, fields, warnings] of FILES) {
    it(name, () => {
      const loaded = load(readFileSync(join('test/fixtures/config', `${name}.yaml`), 'utf8'))
      for (const [path, value] of Object.entries(fields))
        expect(valueAt(loaded.document, path), path).to.deep.equal(value)
      expect(loaded.warnings).to.deep.equal(warnings)
    })
  }

  it('have the bytes that they are about', () => {
    const bytes = (name: string): string => readFileSync(`test/fixtures/config/${name}.yaml`, 'utf8')
    expect(bytes('bom')[0]).to.equal('\uFEFF')
    expect(bytes('crlf').split('\r\n')).to.have.length(6)
  })
})

describe('the first document', () => {
  const SH = `${HEAD}ipvs: {scheduler: sh}\n`
  const alone: readonly [string, string][] = [
    ['marks at both ends', `---\n${SH}---\n`],
    ['a mark with a comment behind it', `${SH}--- # nothing\n# nothing either\n`],
    ['several marks', `${SH}---\n...\n---\n`],
    ['a comment before its mark', `# by hand\n---\n${SH}`],
    ['a directive', `%YAML 1.1\n---\n${SH}`],
    ['CRLF and a mark', `---\r\n${SH.replaceAll('\n', '\r\n')}---\r\n`],
  ]
  for (const [name, text] of alone) {
    it(`is read with ${name}, without a warning`, () => {
      const { config, warnings } = load(text)
      expect(config.scheduler).to.equal('sh')
      expect(warnings).to.deep.equal([])
    })
  }

  const followed: readonly [string, string][] = [
    ['another kind', '---\nkind: ConfigMap\n'],
    ['the same kind', `---\n${HEAD}ipvs: {scheduler: lc}\n`],
    ['a bracket that is not closed', '---\nx: {a\n'],
    ['tabs and quotes', '---\n\t- a: "b\n\tc: \'\n'],
    ['a bracket too many', '---\n}not yaml\n'],
    ['a repeated field', '---\na: 1\na: 2\n'],
    ['an alias of nothing', '---\na: *nothing\n'],
    ['garbage after its end', '...\n}not yaml\n'],
    ['garbage and a document', '...\n}not yaml\n---\na: {\n'],
  ]
  for (const [name, text] of followed) {
    it(`is read where ${name} follows, with a warning`, () => {
      const { config, warnings } = load(SH + text)
      expect(config.scheduler).to.equal('sh')
      expect(warnings).to.have.length(1)
      expect(warnings[0]).to.match(
        /^line [56] of proxy\.yaml begins another document: only the first is read$/,
      )
    })
  }

  const strange: readonly [string, string, string][] = [
    ['nothing', '', 'is empty'],
    ['comments', '# mode: ipvs\n', 'is empty'],
    ['a mark, then nothing', `---\n---\n${HEAD}`, 'is empty'],
    ['null', 'null', 'is empty'],
    ['another kind first', `apiVersion: v1\nkind: ConfigMap\n---\n${HEAD}`, 'is of kind "ConfigMap"'],
    ['no kind', 'mode: ipvs', 'has no kind'],
    ['a list', '[a]', 'is ["a"]'],
    ['a number', '7', 'is 7'],
  ]
  for (const [name, text, what] of strange) {
    it(`is refused in one sentence where it is ${name}`, () => {
      expect(refusal(text)).to.equal(
        `Cannot use configuration proxy.yaml: its first YAML document ${what}: only the first is read, so put ` +
          'the KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) there',
      )
    })
  }
})

describe('YAML 1.1 as goyaml.v2 understands it', () => {
  const scalars: readonly (readonly [string, unknown])[] = [
    ...['y', 'Y', 'yes', 'Yes', 'YES', 'on', 'On', 'ON', 'true', 'True', 'TRUE'].map(
      (text) => [text, true] as const,
    ),
    ...['n', 'N', 'no', 'No', 'NO', 'off', 'Off', 'OFF', 'false', 'False', 'FALSE'].map(
      (text) => [text, false] as const,
    ),
    ...['yEs', 'tRUE', '"yes"', "'no'"].map((text) => [text, text.replaceAll(/["']/g, '')] as const),
    ...['~', 'null', 'Null', 'NULL', ''].map((text) => [text, null] as const),
    ['0755', 493],
    ['0o17', 15],
    ['-017', -15],
    ['0x1F', 31],
    ['0b11', 3],
    ['-0b11', -3],
    ['08', 8],
    ['+5', 5],
    ['1_000', 1_000],
    ['0_17', 15],
    ['1_0.5', 10.5],
    ['1e3', 1_000],
    ['.5', 0.5],
    ['5.', 5],
    ['!!int 14', 14],
    ['!!str 14', '14'],
    ['"14"', '14'],
    // What is a number to YAML 1.1, or to a careless reader, and not to goyaml.v2.
    ['1:30', '1:30'],
    ['190:20:30', '190:20:30'],
    ['2026-01-01', '2026-01-01'],
    ['2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z'],
    ['e5', 'e5'],
    ['.', '.'],
    ['0o8', '0o8'],
    ['_1', '_1'],
    ['10.0.0.0', '10.0.0.0'],
    // What JavaScript cannot hold.
    ['12345678901234567890', '12345678901234567890'],
    ['1e400', '1e400'],
  ]
  for (const [text, value] of scalars) {
    it(`${text === '' ? 'nothing' : text} is ${JSON.stringify(value)}`, () => {
      expect(valueOf(`a: ${text}\n`)).to.deep.equal({ a: value })
      expect(valueOf(`%YAML 1.2\n---\na: [ ${text} ]\n`)).to.deep.equal({ a: text === '' ? [] : [value] })
    })
  }

  const merges: readonly [string, string, object][] = [
    ['one', 'x: {<<: *a, c: 9}', { p: 1, q: 2, c: 9 }],
    ['a list, of which the first wins', 'x: {<<: [*a, *b], c: 9}', { p: 1, q: 2, r: 4, c: 9 }],
    ['the same list, turned round', 'x: {<<: [*b, *a]}', { p: 1, q: 3, r: 4 }],
    ['one before fields that win', 'x: {<<: *a, q: 9}', { p: 1, q: 9 }],
    ['one behind fields that win', 'x: {q: 9, <<: *a}', { p: 1, q: 9 }],
    ['one without an anchor', 'x: {<<: {p: 7}}', { p: 7 }],
    ['two', 'x:\n  <<: *a\n  <<: *b\n', { p: 1, q: 2, r: 4 }],
    ['none, where it is quoted', 'x: {"<<": {p: 7}}', { '<<': { p: 7 } }],
  ]
  for (const [name, text, value] of merges) {
    it(`merges ${name}`, () => {
      const { x } = valueOf(`a: &a {p: 1, q: 2}\nb: &b {q: 3, r: 4}\n${text}`) as { readonly x: unknown }
      expect(x).to.deep.equal(value)
    })
  }

  it('takes aliases anywhere', () => {
    const { config } = load(
      `${HEAD}x: &net [192.0.2.0/24]\nipvs: {excludeCIDRs: *net}\nnodePortAddresses: *net\n`,
    )
    expect(config.nodePortAddresses).to.deep.equal(['192.0.2.0/24'])
    expect(config.excludeCidrs).to.have.length(1)
  })

  it('takes numbers of all forms where a number is wanted', () => {
    const { config } = load(
      `${HEAD}conntrack: {min: 0o400000, maxPerCore: 32_768}\niptables: {masqueradeBit: 0x0E}\n`,
    )
    expect(config.conntrack).to.include({ min: 131_072, maxPerCore: 32_768 })
    expect(config.masqueradeBit).to.equal(14)
  })

  it('reads JSON', () => {
    const json = {
      apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
      kind: 'KubeProxyConfiguration',
      mode: 'ipvs',
    }
    expect(
      load(JSON.stringify({ ...json, ipvs: { strictARP: true } }, null, '\t')).config.strictArp,
    ).to.equal(true)
    expect(refusal(JSON.stringify({ ...json, ipvs: { strictARP: 'yes' } }))).to.contain('got "yes"')
  })
})

describe('a file that is no YAML', () => {
  const levels = 'abcdefghij'.split('').map((name, i, names) => {
    const below = i === 0 ? 'x' : `*${names[i - 1]}`
    return `${name}: &${name} [${Array(9).fill(below).join(', ')}]\n`
  })
  const faults: readonly [string, string, string][] = [
    [
      'a bracket that is not closed',
      'ipvs: {scheduler: lc\n',
      'line 5, column 1: the indentation does not fit, or a closing } or ] is missing before',
    ],
    [
      'the same, with another document behind it',
      'ipvs: {scheduler: lc\n---\na: 1\n',
      'line 5, column 1: the indentation does not fit, or a closing } or ] is missing before',
    ],
    [
      'a quote that is not closed',
      'ipvs: {scheduler: "lc}\n',
      'line 5, column 1: a closing quote is missing',
    ],
    ['a tab', 'ipvs:\n\tscheduler: lc\n', 'line 5, column 1: a tab indents this line: use spaces'],
    ['a colon that is not there', 'ipvs\n', 'line 4, column 1: a colon is missing after the name of a field'],
    [
      'two fields on a line',
      'ipvs: scheduler: lc\n',
      'line 4, column 7: a second field on one line: begin a new line, or put the value into quotes',
    ],
    [
      'a template',
      'ipvs: {scheduler: `{{ x }}`}\n',
      'line 4, column 19: a value cannot begin with this character: put the value into quotes',
    ],
    [
      'a backslash',
      'hostnameOverride: "a\\d"\n',
      'line 4, column 21: unknown escape in double quotes: write \\\\ for a backslash, or use single quotes',
    ],
    ['an alias of nothing', 'ipvs: *none\n', 'line 4, column 7: *none has no &none before it'],
    ['an alias of what comes later', 'ipvs: *x\nx: &x {}\n', 'line 4, column 7: *x has no &x before it'],
    ['an anchor within itself', 'ipvs: &a\n  b: *a\n', 'line 5, column 6: &a contains itself'],
    ['a merge within itself', 'ipvs: &a\n  <<: *a\n', 'line 5, column 7: &a contains itself'],
    [
      'a merge of text',
      'x: &a 5\nipvs:\n  <<: *a\n',
      'line 6, column 3: the merge key << takes a mapping or a list of mappings',
    ],
    [
      'a merge of a list of text',
      'ipvs:\n  <<: [a]\n',
      'line 5, column 3: the merge key << takes a mapping or a list of mappings',
    ],
    ['aliases without end', levels.join(''), 'its aliases (*) stand for too much: write the values out'],
  ]
  for (const [name, text, fault] of faults) {
    it(`says so of ${name}`, () => {
      expect(refusal(HEAD + text)).to.equal(`Cannot read proxy.yaml: ${fault}`)
    })
  }

  it('says so of what is nested without end', () => {
    expect(refusal(`${HEAD}x: ${'['.repeat(20_000)}`)).to.match(
      /line 4, column \d+: fields are nested too deeply$/,
    )
  })
})
