/** --service-metrics and --service-metrics-namespaces. */
import { expect } from 'chai'
import { parseCommandLine } from '../../src/command-line.ts'
import type { ServiceMetricsChoice } from '../../src/config/service-metrics.ts'

function choiceOf(...args: readonly string[]): ServiceMetricsChoice | undefined {
  const fail = (error: Error): never => {
    throw error
  }
  return parseCommandLine(['node', 'kube-ipvs', ...args], fail).serviceMetrics
}

describe('--service-metrics', () => {
  it('is off unless it is given, and with 0', () => {
    expect(choiceOf()).to.equal(undefined)
    expect(choiceOf('--service-metrics=0', '--service-metrics-namespaces=shop')).to.equal(undefined)
  })

  it('is how many virtual servers have metrics; the last one counts', () => {
    expect(choiceOf('--service-metrics=50', '--service-metrics=100')).to.deep.equal({
      most: 100,
      namespaces: new Set(),
    })
  })

  it('is of some namespaces where they are given', () => {
    expect(choiceOf('--service-metrics=100', '--service-metrics-namespaces=shop, pay')).to.deep.equal({
      most: 100,
      namespaces: new Set(['shop', 'pay']),
    })
    expect(choiceOf('--service-metrics=1', '--service-metrics-namespaces=')!.namespaces.size).to.equal(0)
  })

  const refused: readonly (readonly [string, RegExp])[] = [
    ['--service-metrics=', /^Cannot use --service-metrics: expected a number of virtual servers, 0 to 1000/],
    ['--service-metrics=-1', /--service-metrics: expected .*, got "-1"$/],
    ['--service-metrics=1001', /0 to 1000, got "1001"$/],
    ['--service-metrics=1e3', /got "1e3"$/],
    ['--service-metrics=all', /got "all"$/],
    [
      '--service-metrics-namespaces=shop',
      /^Cannot use --service-metrics-namespaces: set --service-metrics, too/,
    ],
    [
      '--service-metrics=1 --service-metrics-namespaces=Shop',
      /-namespaces: expected names of .*, got "Shop"$/,
    ],
    ['--service-metrics=1 --service-metrics-namespaces=a,,b', /got "a,,b"$/],
    ['--service-metrics=1 --service-metrics-namespaces=*', /got "\*"$/],
  ]
  for (const [args, message] of refused) {
    it(`refuses "${args}", and names the flag`, () => {
      expect(() => choiceOf(...args.split(' '))).to.throw(message)
    })
  }
})
