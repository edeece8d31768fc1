/**
 * The pictures of the status page in docs/: a node that nobody has, in light and in dark.
 *   node scripts/screenshots.ts
 */
import { writeFileSync } from 'node:fs'
import { openBrowser } from '../test/support/browser.ts'
import { endpoint, node, READY, service, slice, TERMINATING } from '../test/support/builders.ts'
import { FakeKernel } from '../test/support/fake-kernel.ts'
import { StatusPage } from '../test/support/status-page.ts'
import { shrink } from './small-png.ts'

const NOW = new Date(2026, 10, 3, 14, 30).getTime()
const MINUTE = 60_000

interface Made {
  readonly service: string
  readonly port: readonly [name: string, port: number, protocol?: string]
  readonly pods: readonly string[]
  /** New ones a second. */
  readonly connections: number
}

const MADE: readonly Made[] = [
  { service: 'default/kubernetes', port: ['https', 443], pods: ['a', 'b', 'c'], connections: 3 },
  { service: 'kube-system/kube-dns', port: ['dns', 53, 'UDP'], pods: ['k7x2q', 'w9d4m'], connections: 412 },
  { service: 'shop/cart', port: ['grpc', 7070], pods: ['c4v9k', 'm2r7p', 'x8j3s'], connections: 38 },
  { service: 'shop/checkout', port: ['grpc', 5050], pods: ['d6n2w', 'q5z8h'], connections: 12 },
  { service: 'shop/search', port: ['http', 8080], pods: ['b3f7t', 'g9l4y', 'v2c6x'], connections: 96 },
  { service: 'shop/web', port: ['http', 80], pods: ['5kq8d', '7hw2m', 'n4x9c', 'z6r3v'], connections: 187 },
]
const [CART, CHECKOUT, SEARCH, WEB] = [2, 3, 4, 5] as const
const INGRESS = '198.51.100.20'

const ipOf = (i: number): string => `10.96.0.${i === 0 ? 1 : 10 + 7 * i}`
const realServerOf = (i: number, j: number): string => `10.244.${1 + (j % 3)}.${10 + 5 * i + j}:8080`
const keyOf = (i: number): string => {
  const [, port, protocol = 'TCP'] = MADE[i]!.port
  return `${ipOf(i)}:${port}/${protocol}`
}

function namesOf(i: number): { readonly namespace: string; readonly name: string } {
  const [namespace, name] = MADE[i]!.service.split('/') as [string, string]
  return { namespace, name }
}

function serviceOf(i: number): Record<string, object> {
  const [name, port, protocol = 'TCP'] = MADE[i]!.port
  return service({ ...namesOf(i), clusterIP: ipOf(i), ports: [{ name, port, protocol }] }) as Record<
    string,
    object
  >
}

/** Of some Pods, or all; the last of them may be about to end. */
function sliceOf(i: number, pods = MADE[i]!.pods.length, isLastEnding = false): object {
  const { namespace, name } = namesOf(i)
  const [portName, , protocol = 'TCP'] = MADE[i]!.port
  const endpoints = MADE[i]!.pods.slice(0, pods).map((pod, j) =>
    endpoint(realServerOf(i, j).split(':')[0]!, {
      targetRef: { kind: 'Pod', name: `${name}-${pod}`, namespace },
      nodeName: `worker-${1 + (j % 3)}`,
      conditions: isLastEnding && j === pods - 1 ? TERMINATING : READY,
    }),
  )
  return slice({ service: name, namespace, endpoints, ports: [{ name: portName, port: 8080, protocol }] })
}

/** Half an hour with a rollout, and a little noise that is the same each time. */
function makeHistory({ samples }: StatusPage): void {
  let seed = 7
  const random = (): number => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647
  for (let i = 0; i < 180; i++) {
    const isRollout = i > 95 && i < 115
    const changes = isRollout ? 4 + 9 * random() : random() < 0.25 ? 1.5 * random() : 0
    const median = 0.05 + 0.05 * random() + (isRollout ? 0.08 : 0)
    samples.push({
      at: NOW - (179 - i) * 10_000,
      ...(changes > 0 && { latency: { median, max: median * (1.6 + 2 * random()) } }),
      changes,
      connections: 690 + 90 * Math.sin(i / 25) + 60 * random(),
    })
  }
}

function makeTraffic({ kernel, rates }: StatusPage): void {
  MADE.forEach(({ connections, pods }, i) => {
    const packets = { inPackets: connections * 22, outPackets: connections * 20 }
    const bytes = { inBytes: connections * 2_900, outBytes: connections * 24_500 }
    rates.set(keyOf(i), { connections, ...packets, ...bytes })
    pods.forEach((_, j) => {
      const active = Math.round((connections * (5 - j)) / 4)
      kernel.setConnections(keyOf(i), realServerOf(i, j), { active, inactive: active >> 2 })
    })
  })
}

/** A real server that somebody has deleted, a load balancer that the kernel refuses, Pods that end. */
async function makeUp(): Promise<StatusPage> {
  let now = NOW - 21 * MINUTE
  const status = new StatusPage(new FakeKernel(), () => now)
  const { story, kernel } = status
  const all = MADE.map((_, i) => i)
  await story.list(
    all.map(serviceOf),
    all.map((i) => sliceOf(i)),
    [node()],
  )
  makeTraffic(status)
  makeHistory(status)
  kernel.state.virtualServers.get(keyOf(CART) as never)!.realServers.delete(realServerOf(CART, 1) as never)
  await story.advance(31_000)

  now = NOW - 9 * MINUTE
  kernel.refuse = (operation) =>
    operation.kind === 'createVirtualServer' && operation.of.address === INGRESS ? 'ENOSPC' : undefined
  const exposed = serviceOf(CHECKOUT)
  await story.put({
    ...exposed,
    spec: { ...exposed.spec, type: 'LoadBalancer', externalIPs: ['127.0.0.9'] },
    status: { loadBalancer: { ingress: [{ ip: INGRESS }] } },
  })

  now = NOW - MINUTE
  await story.put(sliceOf(WEB, 4, true), sliceOf(SEARCH, 2))
  await story.advance(12_000)
  return status
}

const status = await makeUp()
const url = await status.serve()
const browser = await openBrowser()
for (const colorScheme of ['light', 'dark'] as const) {
  const page = await browser.newPage({ colorScheme, viewport: { width: 1160, height: 800 } })
  await page.clock.setFixedTime(NOW)
  await page.goto(url)
  await page.getByRole('button', { name: /shop\/web/ }).click()
  await page.getByRole('table', { name: /Real servers of/ }).waitFor()
  await page.evaluate('document.activeElement.blur()')
  await page.mouse.move(0, 0)
  await page.waitForTimeout(500)
  const picture = await page.screenshot({ fullPage: true })
  writeFileSync(`docs/status-page-${colorScheme}.png`, shrink(picture))
  await page.close()
}
await browser.close()
await status.close()
