/** What it costs to look: `get`, a refresh of the status page and a scrape of the metrics, and what changes wait for them. */
import { request, type RequestOptions } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Figures } from './scenario.ts'
import type { Watched } from './watched.ts'

/** As docs/operations.md has it. */
export const LOOKING_FLAGS: readonly string[] = ['--status-page', '--service-metrics=100']

const METRICS = { host: '127.0.0.1', port: 10_249 }
/** A look is done so often to be measured; the first, which V8 has not compiled for, does not count. */
const TIMES = 5

/** Reads an answer to its end; returns its bytes. Throws where it is refused. */
async function read(options: RequestOptions): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request(options, (response) => {
      let bytes = 0
      response.on('data', (part: Buffer) => (bytes += part.length))
      response.on('end', () => {
        if (response.statusCode === 200) resolve(bytes)
        else reject(new Error(`${options.path!}: ${response.statusCode!}`))
      })
    })
    asked.on('error', reject)
    asked.end()
  })
}

async function refresh(): Promise<number> {
  const table = await read({
    ...METRICS,
    path: '/status/v1/virtual-servers?sort=bytes&order=descending&limit=100',
  })
  return table + (await read({ ...METRICS, path: '/status/v1/summary' }))
}

interface Look {
  readonly name: string
  /** Returns the bytes that it has read. */
  readonly look: () => Promise<number>
  /** As somebody who watches closely does it. */
  readonly everyMs: number
}

const LOOKS: readonly Look[] = [
  {
    name: 'get',
    look: () => read({ socketPath: '/run/kube-ipvs/socket', path: '/v1/virtual-servers' }),
    everyMs: 15_000,
  },
  { name: 'refresh', look: refresh, everyMs: 2_000 },
  { name: 'scrape', look: () => read({ ...METRICS, path: '/metrics' }), everyMs: 15_000 },
]

/** One look after the other, with nothing else going on. */
export async function cost(program: Watched): Promise<Figures> {
  const figures: Figures = {}
  for (const { name, look } of LOOKS) {
    await look()
    const before = program.cpuMs()
    let bytes = 0
    for (let i = 0; i < TIMES; i++) {
      // What is read for a refresh serves others for two seconds.
      await sleep(2_000)
      bytes = await look()
    }
    figures[`${name}Cpu`] = (program.cpuMs() - before) / TIMES
    figures[`${name}Bytes`] = bytes
  }
  return figures
}

/** Looks again and again in all ways, while something else is measured. */
export async function whileLooking<Result>(measure: () => Promise<Result>): Promise<Result> {
  const end = new AbortController()
  const looking = LOOKS.map(async ({ look, everyMs }) => {
    while (!end.signal.aborted) {
      await look()
      await sleep(everyMs, undefined, { signal: end.signal }).catch(() => undefined)
    }
  })
  try {
    return await measure()
  } finally {
    end.abort()
    await Promise.all(looking)
  }
}
