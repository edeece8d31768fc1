/** docs/operations.md stays true: the metrics, Events, files and kustomizations that it names exist. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { parse } from 'yaml'
import { Metrics } from '../../src/serve/metrics.ts'

const TEXT = readFileSync('docs/operations.md', 'utf8')

/** Each text that a pattern's first group finds, once. */
const named = (pattern: RegExp): string[] => [
  ...new Set([...TEXT.matchAll(pattern)].map((match) => match[1]!)),
]

/** YAML that stands in the text. */
const documents = [...TEXT.matchAll(/^( *)```yaml\n([^]*?)^ *```$/gm)].map(([, indent, text]) =>
  text!.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
)

const program = readdirSync('src', { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'utf8'))
  .join('\n')

describe('docs/operations.md', () => {
  it('names metrics that there are', () => {
    const metrics = new Metrics({ defaults: false }).registry.getMetricsAsArray().map(({ name }) => name)
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
    expect(paths).to.include('deploy/overlays/canary')
    for (const path of paths) expect(existsSync(path), path).to.equal(true)
    for (const path of named(/\]\(([\w-]+\.md)/g)) expect(existsSync(join('docs', path)), path).to.equal(true)
  })

  it('has alerts that Prometheus takes', function () {
    this.timeout(120_000)
    const rules = documents.filter((text) => 'groups' in (parse(text) as object))
    expect(rules).to.have.length(1)
    const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-alerts-'))
    const file = join(folder, 'rules.yaml')
    writeFileSync(file, rules[0]!)
    const said = execFileSync('scripts/promtool', ['check', 'rules', file], { encoding: 'utf8' })
    rmSync(folder, { recursive: true })
    expect(said).to.match(/SUCCESS: [1-9]\d* rules found/)
  })
})
