/** Metrics that every component of Kubernetes has: its build, its requests to the API server, its own health. */
import type { Counter, Histogram, Registry } from 'prom-client'
import packageJson from '../../package.json' with { type: 'json' }
import { makers } from './metric-makers.ts'

/** client-go's. */
const REQUEST_BUCKETS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60]

interface ComponentMetrics {
  readonly requests: Counter<'code' | 'method' | 'host'>
  readonly requestDuration: Histogram<'verb' | 'host'>
}

/** Makes those for /metrics. */
export function componentMetrics(registry: Registry): ComponentMetrics {
  const { counter, gauge, histogram } = makers(registry)
  const build = gauge('kubernetes_build_info', 'Which build this is; always 1', [
    'major',
    'minor',
    'git_version',
    'platform',
    'compiler',
  ])
  const [major = '', minor = ''] = packageJson.version.split('.')
  const git_version = `v${packageJson.version}`
  build.set({ major, minor, git_version, platform: 'linux', compiler: `node ${process.version}` }, 1)
  return {
    requests: counter('rest_client_requests_total', 'Requests to the API server by their outcome', [
      'code',
      'method',
      'host',
    ]),
    requestDuration: histogram(
      'rest_client_request_duration_seconds',
      'How long requests to the API server took to be answered',
      ['verb', 'host'],
      REQUEST_BUCKETS,
    ),
  }
}

/** Those for /metrics/slis (KEP-3466). As long as we answer, the one check passes: ours, and each scrape is one. */
export function addSlis(registry: Registry): void {
  const { counter, gauge } = makers(registry)
  const labels = { name: 'ping', type: 'healthz' }
  gauge('kubernetes_healthcheck', 'Whether a health check passes', ['name', 'type']).set(labels, 1)
  counter('kubernetes_healthchecks_total', 'Health checks by their outcome', ['name', 'type', 'status'], {
    collect() {
      this.inc({ ...labels, status: 'success' })
    },
  })
}
