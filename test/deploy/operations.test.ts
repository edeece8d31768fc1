/** docs/operations.md stays true: the metrics, Events, files and kustomizations that it names exist, and its steps work. */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { parse, parseAllDocuments } from 'yaml'
import { Metrics } from '../../src/serve/metrics.ts'
import { formatServiceMetrics } from '../../src/serve/service-metrics.ts'
import {
  type Container,
  type Labels,
  type Manifest,
  type Placement,
  podSpecOf,
  render,
  runsOn,
} from '../support/deploy.ts'

const TEXT = readFileSync('docs/operations.md', 'utf8')

/** Each text that a pattern's first group finds, once. */
const named = (pattern: RegExp): string[] => [
  ...new Set([...TEXT.matchAll(pattern)].map((match) => match[1]!)),
]

const program = readdirSync('src', { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'utf8'))
  .join('\n')

describe('docs/operations.md', () => {
  it('names metrics that there are', async () => {
    const text =
      (await new Metrics({ defaults: false }).registry.metrics()) + (await formatServiceMetrics([], 0))
    const metrics = [...text.matchAll(/^# TYPE (\w+)/gm)].map((match) => match[1]!)
    const names = named(/\b((?:kube_ipvs|kubeproxy)_\w+[a-z])\b/g)
    expect(names).not.to.be.empty
    expect(metrics).to.include.members(names)
  })

  it('names Events that there are', () => {
    const reasons = named(/`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`/g).filter((name) => !name.startsWith('Kube'))
    expect(reasons).to.include('SchedulerUnavailable')
    for (const reason of reasons) expect(program, reason).to.contain(`'${reason}'`)
  })

  it('names files and folders that there are', () => {
    const paths = named(/(?:[^\w./-]|\.\.\/kube-ipvs\/)((?:deploy|docs|scripts)\/[\w./-]*\w)/g)
    expect(paths).to.include('deploy/overlays/replace-kube-proxy')
    for (const path of paths) expect(existsSync(path), path).to.equal(true)
    for (const path of named(/\]\(([\w-]+\.md)/g)) expect(existsSync(join('docs', path)), path).to.equal(true)
  })
})

/** A program that notes how it is called, and what it reads. */
const NOTING = `#!${process.execPath}
const { appendFileSync, readFileSync } = require('node:fs')
const [, path, ...args] = process.argv
const input = args.join(' ').endsWith('-f -') ? readFileSync(0, 'utf8') : ''
const program = path.split('/').at(-1)
appendFileSync(process.env.CALLS, JSON.stringify({ program, args, input }) + '\\n')
console.log('mode: ipvs')
`

interface Call {
  readonly program: string
  readonly args: readonly string[]
  readonly input: string
}

/** Runs the steps from one heading to another as they stand, in a checkout of its own. */
function runSteps(folder: string, from: string, to: string): Call[] {
  const part = TEXT.slice(TEXT.indexOf(`\n## ${from}\n`), TEXT.indexOf(`\n## ${to}\n`))
  const steps = [...part.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, text]) => text!)
  expect(steps.length).to.be.at.least(8)
  for (const name of ['kubectl', 'docker', 'curl', 'kube-ipvs'])
    writeFileSync(join(folder, name), NOTING, { mode: 0o755 })
  cpSync('deploy', join(folder, 'deploy'), { recursive: true })
  const CALLS = join(folder, 'calls')
  execFileSync('bash', ['-euo', 'pipefail', '-c', steps.join('\n')], {
    cwd: folder,
    env: { PATH: `${folder}:${process.env.PATH}`, CALLS },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const lines = readFileSync(CALLS, 'utf8').trim().split('\n')
  return lines.map((line) => JSON.parse(line) as Call)
}

const OS: Labels = { 'kubernetes.io/os': 'linux' }

/** A cluster of two nodes, as far as DaemonSets and labels go. */
class ClusterOfTwo {
  readonly nodes: Record<string, Labels> = { 'worker-1': { ...OS }, 'worker-2': { ...OS } }
  readonly templates = new Set<string>()
  kubeProxy: Placement = { nodeSelector: { ...OS } }
  kubeIpvs: Placement | undefined
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  take({ args }: Call): void {
    const [verb] = args[0] === '-n' ? args.slice(2) : args
    const after = (word: string): string => args[args.indexOf(word) + 1]!
    if (verb === 'label') this.#label(args.slice(1))
    else if (verb === 'apply' && args.includes('-k')) this.#apply(after('-k'))
    else if (verb === 'delete' && args.includes('-k')) this.kubeIpvs = undefined
    else if (verb === 'patch' && args.includes('--type=json')) {
      const [{ path }] = JSON.parse(after('-p')) as [{ path: string }]
      const key = path.split('/').at(-1)!.replaceAll('~1', '/')
      expect(this.kubeProxy.nodeSelector).to.have.property(key)
      this.kubeProxy = { nodeSelector: { ...OS } }
    } else if (verb === 'patch') {
      const { spec } = JSON.parse(after('-p')) as { spec: { template: { spec: Placement } } }
      this.kubeProxy = { nodeSelector: { ...OS, ...spec.template.spec.nodeSelector } }
    }
  }

  /** Which proxies run on each node. */
  proxies(): string[] {
    return Object.values(this.nodes).map((labels) =>
      [
        ...(runsOn(this.kubeProxy, labels) ? ['kube-proxy'] : []),
        ...(this.kubeIpvs !== undefined && runsOn(this.kubeIpvs, labels) ? ['kube-ipvs'] : []),
      ].join('+'),
    )
  }

  #label([, which, change]: readonly string[]): void {
    for (const name of which === '--all' ? Object.keys(this.nodes) : [which!]) {
      const [key, value] = change!.split('=')
      if (value === undefined) Reflect.deleteProperty(this.nodes[name]!, key!.replace(/-$/, ''))
      else this.nodes[name]![key!] = value
    }
  }

  #apply(folder: string): void {
    const daemonSet = render(join(this.#folder, folder)).find(({ kind }) => kind === 'DaemonSet')!
    this.templates.add(JSON.stringify((daemonSet.spec as { template: unknown }).template))
    this.kubeIpvs = podSpecOf(daemonSet)
  }
}

describe('the steps of docs/operations.md', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-steps-'))
  let calls: Call[]
  let image: string

  before(() => {
    calls = runSteps(folder, 'Before', 'Switch the scheduler')
    image = /export IMAGE=(\S+)/.exec(TEXT)?.[1] ?? ''
  })
  after(() => {
    rmSync(folder, { recursive: true })
  })

  it('name the registry once', () => {
    const [registry] = image.split('/')
    expect(TEXT.split(registry!)).to.have.length(2)
    expect(TEXT).not.to.match(/-k deploy\//)
  })

  it('apply that image, then the next version of it, and no other', () => {
    const applied = calls.filter(({ args }) => args[0] === 'apply')
    const objects = applied.flatMap(({ args, input }) =>
      args.includes('-k')
        ? render(join(folder, args[args.indexOf('-k') + 1]!))
        : parseAllDocuments(input).map((document) => document.toJS() as Manifest),
    )
    const containersOf = ({ initContainers = [], containers }: Partial<ReturnType<typeof podSpecOf>>) => [
      ...initContainers,
      ...(containers ?? []),
    ]
    const images = objects.flatMap((object): Container[] => {
      if (object.kind === 'DaemonSet') return containersOf(podSpecOf(object))
      return object.kind === 'Pod' ? containersOf(object.spec as object) : []
    })
    // Of the plan, and twice of a kustomization, which is rendered here as it is in the end.
    const next = image.replace(/[^:]*$/, /export VERSION=(\S+)/.exec(TEXT)![1]!)
    expect(images.map((container) => container.image)).to.deep.equal([image, next, next, next, next])
    const built = calls.filter(({ program: name }) => name === 'docker').flatMap(({ args }) => args)
    expect(built.filter((arg) => arg.includes('kube-ipvs:'))).to.deep.equal([image, image, next, next])
    expect(calls.flatMap(({ args }) => args)).to.include(`kube-proxy=${image}`)
  })

  it('plan on the node that is named', () => {
    const { input } = calls.find(({ args }) => args.join(' ') === 'apply -f -')!
    expect(parse(input)).to.have.nested.property('spec.nodeName', /export .*NODE=(\S+)/.exec(TEXT)![1])
  })

  it('have one proxy on each node whenever a step is over, and one Pod template from the canary on', () => {
    const cluster = new ClusterOfTwo(folder)
    const seen: string[] = []
    const isStep = ({ args }: Call): boolean => /^(-n \S+ )?(label|patch|apply|delete) /.test(args.join(' '))
    for (const call of calls.filter(({ program: name }) => name === 'kubectl')) {
      cluster.take(call)
      const proxies = cluster.proxies().join(' ')
      if (isStep(call) && seen.at(-1) !== proxies) seen.push(proxies)
    }
    expect(seen).to.deep.equal([
      'kube-proxy kube-proxy',
      'kube-ipvs kube-proxy',
      'kube-ipvs kube-ipvs',
      'kube-proxy kube-ipvs',
      'kube-proxy kube-proxy',
    ])
    expect(cluster.templates.size).to.equal(1)
    expect(cluster.kubeProxy).to.deep.equal({ nodeSelector: OS })
    expect(Object.values(cluster.nodes)).to.deep.equal([OS, OS])
  })
})
