/** deploy/monitoring: rules that Prometheus takes and that fire when they should, a runbook for each, a dashboard. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect } from 'chai'
import { parse } from 'yaml'
import { Metrics } from '../../src/serve/metrics.ts'
import { formatServiceMetrics } from '../../src/serve/service-metrics.ts'

const FOLDER = 'deploy/monitoring'
const RULES = join(FOLDER, 'alerts.yaml')

interface Rule {
  readonly alert?: string
  readonly record?: string
  readonly expr: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}
interface AlertTest {
  readonly alertname: string
  readonly exp_alerts: readonly object[]
}
interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly description?: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly datasource?: { readonly uid: string }
  readonly targets?: readonly { readonly refId: string; readonly expr: string }[]
}
interface Dashboard {
  readonly uid: string
  readonly title: string
  readonly schemaVersion: number
  readonly templating: { readonly list: readonly { readonly name: string; readonly type: string }[] }
  readonly panels: readonly Panel[]
}

const text = (file: string): string => readFileSync(file, 'utf8')
const rules = (parse(text(RULES)) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules)
const alerts = rules.filter(({ alert }) => alert !== undefined)
const names = alerts.map(({ alert }) => alert!)
const dashboard = JSON.parse(text(join(FOLDER, 'dashboard.json'))) as Dashboard
const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))

function promtool(...args: readonly string[]): { readonly status: number | null; readonly said: string } {
  const { status, stdout, stderr } = spawnSync('scripts/promtool', args, { encoding: 'utf8' })
  return { status, said: `${stdout}${stderr}` }
}

/** The metrics in an expression: what is neither text, label, duration, function nor operator. */
function metricsIn(expr: string): string[] {
  const bare = expr
    .replaceAll(/"[^"]*"/g, '')
    .replaceAll(/\{[^}]*\}|\[[^\]]*\]|\bby\s*\([^)]*\)/g, '')
    .replaceAll(/\b(?:or|and|unless)\b/g, '')
  return [...bare.matchAll(/\b[a-z_:][\w:]*\b(?!\s*\()/gi)].map(([name]) => name)
}

describe('deploy/monitoring', function () {
  this.timeout(120_000)
  const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-monitoring-'))
  after(() => {
    rmSync(folder, { recursive: true })
  })

  it('asks only for metrics that there are', async () => {
    const all = (await new Metrics().registry.metrics()) + (await formatServiceMetrics([], 0))
    const known = [...all.matchAll(/^# TYPE (\w+) (\w+)/gm)].map(([, name, type]) =>
      type === 'histogram' ? `${name}_bucket` : name!,
    )
    const asked = new Set([...rules.map(({ expr }) => expr), ...queries].flatMap(metricsIn))

    expect(asked).to.include('kube_ipvs_failing_objects').and.include('kube_ipvs_service_bytes_total')
    expect([...asked].filter((name) => !known.includes(name))).to.deep.equal(['up'])
  })

  describe('alerts.yaml', () => {
    it('has rules that Prometheus takes', () => {
      const { status, said } = promtool('check', 'rules', RULES)
      expect(status, said).to.equal(0)
      expect(said).to.contain(`SUCCESS: ${rules.length} rules found`)
    })

    it('has alerts that fire when they should, and on no healthy node', () => {
      const { status, said } = promtool('test', 'rules', join(FOLDER, 'alerts.test.yaml'))
      expect(status, said).to.equal(0)
    })

    it('has a test of each alert that fires, and one that does not', () => {
      const { tests } = parse(text(join(FOLDER, 'alerts.test.yaml'))) as {
        tests: { alert_rule_test: AlertTest[] }[]
      }
      const tested = tests.flatMap((test) => test.alert_rule_test)
      const of = (isFiring: boolean): Set<string> =>
        new Set(
          tested
            .filter(({ exp_alerts: fired }) => fired.length > 0 === isFiring)
            .map(({ alertname }) => alertname),
        )
      expect([...of(true)].sort()).to.deep.equal([...names].sort())
      expect([...of(false)].sort()).to.deep.equal([...names].sort())
    })

    it('has a section of the runbook for each alert, and the runbook has no other', () => {
      const sections = [...text('docs/runbook.md').matchAll(/^## (\w+)$/gm)].map((match) => match[1]!)
      expect(sections).to.deep.equal(names)
      for (const { alert, labels, annotations } of alerts) {
        expect(labels.severity, alert).to.be.oneOf(['critical', 'warning', 'info'])
        expect(annotations, alert).to.have.all.keys('summary', 'description', 'runbook_url')
        expect(annotations!.runbook_url).to.equal(`docs/runbook.md#${alert!.toLowerCase()}`)
      }
    })

    it('has a runbook whose links lead somewhere', () => {
      const anchors = (page: string): string[] =>
        [...text(page).matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
          title!
            .toLowerCase()
            .replaceAll(/[^\w -]/g, '')
            .replaceAll(' ', '-'),
        )
      const links = [...text('docs/runbook.md').matchAll(/\]\(([^)#]*)(?:#([^)]+))?\)/g)]
      expect(links).to.have.length.above(5)
      for (const [link, page, anchor] of links) {
        const path = page === '' ? 'docs/runbook.md' : join('docs', page!)
        expect(existsSync(path), link).to.equal(true)
        if (anchor !== undefined) expect(anchors(path), link).to.include(anchor)
      }
    })

    it('has what ClusterLoader2 asks of network programming latency, from our buckets', async () => {
      const metrics = new Metrics({ defaults: false, families: ['IPv4'] })
      for (let i = 0; i < 98; i++) metrics.programmed('IPv4', 1.5)
      for (let i = 0; i < 2; i++) metrics.programmed('IPv4', 19.7)
      const scraped = await metrics.registry.metrics()
      const buckets = scraped.matchAll(
        /^(kubeproxy_network_programming_duration_seconds_bucket\{.*\}) (\d+)$/gm,
      )
      // 1 + 50/98 s, 1 + 90/98 s, and the middle of the bucket from 19 s to 20 s.
      const expected = { '0.50': 1510, '0.90': 1918, '0.99': 19_500 }
      const query = 'kubeproxy:kubeproxy_network_programming_duration:histogram_quantile{}[10m]'
      const test = {
        rule_files: [resolve(RULES)],
        tests: [
          {
            interval: '1m',
            input_series: [...buckets].map(([, series, count]) => ({ series, values: `0 ${count}x9` })),
            promql_expr_test: [
              {
                expr: `round(1000 * quantile_over_time(0.99, ${query}))`,
                eval_time: '5m',
                exp_samples: Object.entries(expected).map(([quantile, value]) => ({
                  labels: `{quantile="${quantile}"}`,
                  value,
                })),
              },
            ],
          },
        ],
      }
      const file = join(folder, 'latency.test.yaml')
      writeFileSync(file, JSON.stringify(test))
      const { status, said } = promtool('test', 'rules', file)
      expect(test.tests[0]!.input_series).to.have.length.above(80)
      expect(status, said).to.equal(0)
    })
  })

  describe('dashboard.json', () => {
    it('has a name, and variables for the source and the node', () => {
      expect(dashboard).to.include({ uid: 'kube-ipvs', title: 'kube-ipvs' })
      expect(dashboard.schemaVersion).to.be.a('number')
      const variables = dashboard.templating.list.map(({ name, type }) => `${name}: ${type}`)
      expect(variables).to.deep.equal(['datasource: datasource', 'job: query', 'node: query'])
    })

    it('has panels that each say what they show, from that source, none over another', () => {
      expect(new Set(dashboard.panels.map(({ id }) => id)).size).to.equal(dashboard.panels.length)
      const taken = new Set<string>()
      for (const { type, title, description, datasource, targets, gridPos } of dashboard.panels) {
        for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
          for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
            expect(taken.has(`${x},${y}`), `${title} at ${x},${y}`).to.equal(false)
            taken.add(`${x},${y}`)
          }
        expect(gridPos.x + gridPos.w, title).to.be.at.most(24)
        if (type === 'row') continue
        expect(description, title).to.be.a('string').and.not.equal('')
        expect(datasource!.uid, title).to.equal('${datasource}')
        expect(targets, title).to.have.length.above(0)
      }
    })

    it('has queries that Prometheus takes', () => {
      const records = queries.map((query, i) => ({
        record: `query_${i}`,
        expr: query.replaceAll('$__rate_interval', '5m'),
      }))
      const file = join(folder, 'queries.yaml')
      writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: records }] }))
      const { status, said } = promtool('check', 'rules', '--lint=none', file)
      expect(status, said).to.equal(0)
      expect(said).to.contain(`SUCCESS: ${queries.length} rules found`)
    })
  })
})
