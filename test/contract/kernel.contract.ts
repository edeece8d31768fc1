/** What every Kernel must do. Runs on the fake always, and on the real one in the lab: where they differ, the fake is wrong. */
import { expect } from 'chai'
import { type Binding, BINDINGS, isBoundAs } from '../../src/model/binding.ts'
import { netlinkErrorOf } from '../../src/kernel/explain.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import type { Address } from '../../src/model/address.ts'
import { formatVirtualServers } from '../../src/model/ipvsadm.ts'
import { emptyKernelState, type KernelState } from '../../src/model/kernel-object.ts'
import type { Operation } from '../../src/model/operation.ts'
import { ipvsIpsMember } from '../../src/model/sets.ts'
import { boundLines } from '../support/bound.ts'
import { parseIpvsadm } from '../support/ipvsadm-text.ts'
import type { Random } from '../support/random.ts'

/** Everything in the kernel, as text: virtual servers as ipvsadm prints them, then addresses, then members. */
export async function dump(kernel: Kernel): Promise<string[]> {
  const { virtualServers, addresses, setMembers } = await kernel.readTables()
  const real = await kernel.readRealServers(virtualServers.map(({ id }) => id))
  const state: KernelState = emptyKernelState()
  for (const { id, settings } of virtualServers) {
    const realServers = new Map(
      real.get(id.key)!.map(({ connections: _connections, ...server }) => [server.key, server]),
    )
    state.virtualServers.set(id.key, { id, settings, realServers, isProven: true })
  }
  return [...formatVirtualServers(state).sort(), ...boundLines(addresses).sort(), ...[...setMembers].sort()]
}

/** Operations of a line of ipvsadm, by its verb. */
export function operation(line: string): Operation {
  const verb = line.split(' ')[0]!
  const option = line.split(' ').slice(0, 3).join(' ')
  const isReal = verb === verb.toLowerCase()
  const full = isReal
    ? `${option.replace(verb, '-A')} -s rr\n${line.replace(verb, '-a')}`
    : line.replace(verb, '-A')
  const withDefaults = full.includes('-r ') && !full.includes('-w ') ? `${full} -m -w 1` : full
  const server = [...parseIpvsadm(verb === '-D' ? `${full} -s rr` : withDefaults).values()][0]!
  const kinds = {
    '-A': 'createVirtualServer',
    '-E': 'updateVirtualServer',
    '-D': 'deleteVirtualServer',
    '-a': 'createRealServer',
    '-e': 'updateRealServer',
    '-d': 'deleteRealServer',
  } as const
  const kind = kinds[verb as keyof typeof kinds]
  if (!isReal) return { kind, of: server.id, settings: server.settings } as Operation
  return { kind, of: server.id, realServer: [...server.realServers.values()][0]! } as Operation
}

/** The code of each operation's refusal, or undefined. */
export async function codesOf(
  kernel: Kernel,
  ...operations: readonly Operation[]
): Promise<(string | undefined)[]> {
  const refusals = await kernel.execute(operations)
  for (const place of refusals.keys()) expect(place).to.be.within(0, operations.length - 1)
  return operations.map((_, place) => netlinkErrorOf(refusals.get(place))?.code)
}

/** Removes everything that the tests make. */
export async function clear(kernel: Kernel): Promise<void> {
  const { virtualServers, addresses, setMembers } = await kernel.readTables()
  await kernel.execute([
    ...[...addresses.keys()].flatMap((address) =>
      BINDINGS.filter((binding) => isBoundAs(binding, addresses.get(address))).map(
        (binding) => ({ kind: 'unbindAddress', address, binding }) as const,
      ),
    ),
    ...virtualServers.map(({ id }) => ({ kind: 'deleteVirtualServer', of: id }) as const),
    ...[...setMembers].map((member) => ({ kind: 'deleteSetMember', member }) as const),
  ])
}

const VS = '-A -t 10.96.0.10:80 -s rr'
const REAL = '-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1'
const VIP = '10.96.0.10' as Address
const VIP6 = 'fd00:96::10' as Address

export function kernelContract(open: () => Promise<Kernel>): void {
  let kernel: Kernel
  const run = (...lines: readonly string[]) => codesOf(kernel, ...lines.map(operation))

  before(async () => {
    kernel = await open()
  })
  afterEach(() => clear(kernel))
  after(() => {
    kernel.close()
  })

  it('is empty at first: an empty table is a list, not an error', async () => {
    expect(await dump(kernel)).to.deep.equal([])
  })

  const settings: readonly string[] = [
    '-A -t 10.96.0.10:80 -s rr',
    '-A -u 10.96.0.10:80 -s wlc',
    '-A --sctp-service 10.96.0.10:80 -s lc -p 600',
    '-A -t 10.96.0.10:65535 -s sh -p 10800 -b sh-fallback,sh-port',
    '-A -t [fd00:96::10]:80 -s mh -b mh-fallback,mh-port',
    '-A -u [fd00:96::10]:53 -s rr -p 86400',
  ]
  for (const line of settings) {
    it(`gives back what it was given: ${line}`, async () => {
      expect(await run(line)).to.deep.equal([undefined])
      expect(await dump(kernel)).to.deep.equal([line])
    })
  }

  it('gives back real servers of both families, weights and forwarding methods', async () => {
    const lines = [
      VS,
      REAL,
      '-a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0',
      '-a -t 10.96.0.10:80 -r 10.244.0.3:80 -g -w 65535',
      '-A -t [fd00:96::10]:80 -s rr',
      '-a -t [fd00:96::10]:80 -r [fd00:10:244::1]:8080 -m -w 1',
    ]

    expect(await run(...lines)).to.deep.equal(lines.map(() => undefined))
    expect(await dump(kernel)).to.deep.equal([...lines].sort())
  })

  it('changes settings and weights in place', async () => {
    await run(VS, REAL)
    const codes = await run(
      '-E -t 10.96.0.10:80 -s wlc -p 60',
      '-e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 0',
    )

    expect(codes).to.deep.equal([undefined, undefined])
    expect(await dump(kernel)).to.deep.equal([
      '-A -t 10.96.0.10:80 -s wlc -p 60',
      REAL.replace('-w 1', '-w 0'),
    ])
  })

  it('drops the real servers with their virtual server', async () => {
    await run(VS, REAL)
    await run('-D -t 10.96.0.10:80')
    await run(VS)

    expect(await dump(kernel)).to.deep.equal([VS])
  })

  const refusals: readonly {
    readonly name: string
    readonly given: readonly string[]
    readonly line: string
    readonly code: string
  }[] = [
    { name: 'a virtual server that exists', given: [VS], line: VS.replace('rr', 'lc'), code: 'EEXIST' },
    {
      name: 'a scheduler that does not exist',
      given: [],
      line: '-A -t 10.96.0.10:80 -s nosuch',
      code: 'ENOENT',
    },
    {
      name: 'a change to a scheduler that does not exist',
      given: [VS],
      line: '-E -t 10.96.0.10:80 -s nosuch',
      code: 'ENOENT',
    },
    {
      name: 'a change of a virtual server that is missing',
      given: [],
      line: '-E -t 10.96.0.10:80 -s rr',
      code: 'ESRCH',
    },
    {
      name: 'the deletion of a virtual server that is missing',
      given: [VS],
      line: '-D -t 10.96.0.10:81',
      code: 'ESRCH',
    },
    { name: 'a real server of a virtual server that is missing', given: [], line: REAL, code: 'ESRCH' },
    {
      name: 'a real server that exists',
      given: [VS, REAL],
      line: REAL.replace('-w 1', '-w 2'),
      code: 'EEXIST',
    },
    {
      name: 'a change of a real server that is missing',
      given: [VS],
      line: REAL.replace('-a', '-e'),
      code: 'ENOENT',
    },
    {
      name: 'the deletion of a real server that is missing',
      given: [VS],
      line: '-d -t 10.96.0.10:80 -r 10.244.0.1:8080',
      code: 'ENOENT',
    },
    {
      name: 'a change of a real server of a virtual server that is missing',
      given: [],
      line: REAL.replace('-a', '-e'),
      code: 'ESRCH',
    },
    {
      name: 'the deletion of a real server of a virtual server that is missing',
      given: [],
      line: '-d -t 10.96.0.10:80 -r 10.244.0.1:8080',
      code: 'ESRCH',
    },
  ]
  for (const { name, given, line, code } of refusals) {
    it(`refuses ${name} (${code}), and changes nothing`, async () => {
      await run(...given)
      const before = await dump(kernel)

      expect(await run(line)).to.deep.equal([code])
      expect(await dump(kernel)).to.deep.equal(before)
    })
  }

  it('names the module when it refuses a scheduler', async () => {
    const refusals = await kernel.execute([operation('-A -t 10.96.0.10:80 -s nosuch')])

    expect(refusals.get(0)!.message).to.equal(
      'Cannot create virtual server 10.96.0.10:80/TCP: the scheduler "nosuch" is not available: load it with "modprobe ip_vs_nosuch"',
    )
  })

  it('goes on after an operation that fails', async () => {
    expect(await run(REAL, VS, VS, REAL)).to.deep.equal(['ESRCH', undefined, 'EEXIST', undefined])
    expect(await dump(kernel)).to.deep.equal([VS, REAL])
  })

  it('binds and unbinds addresses of both families, each once', async () => {
    const binding = 'address'
    const bind = [VIP, VIP6].map((address) => ({ kind: 'bindAddress', address, binding }) as const)
    const unbind = [VIP, VIP6].map((address) => ({ kind: 'unbindAddress', address, binding }) as const)

    expect(await codesOf(kernel, ...bind)).to.deep.equal([undefined, undefined])
    expect(await dump(kernel)).to.deep.equal([VIP, VIP6])
    expect(await codesOf(kernel, ...bind)).to.deep.equal(['EEXIST', 'EEXIST'])
    expect(await codesOf(kernel, ...unbind)).to.deep.equal([undefined, undefined])
    expect(await codesOf(kernel, ...unbind)).to.deep.equal(['EADDRNOTAVAIL', 'EADDRNOTAVAIL'])
  })

  it('binds and unbinds routes of both families, each once', async () => {
    const binding = 'route'
    const bind = [VIP, VIP6].map((address) => ({ kind: 'bindAddress', address, binding }) as const)
    const unbind = [VIP, VIP6].map((address) => ({ kind: 'unbindAddress', address, binding }) as const)

    expect(await codesOf(kernel, ...bind)).to.deep.equal([undefined, undefined])
    expect(await dump(kernel)).to.deep.equal([`${VIP} route`, `${VIP6} route`])
    expect(await codesOf(kernel, ...bind)).to.deep.equal(['EEXIST', 'EEXIST'])
    expect(await codesOf(kernel, ...unbind)).to.deep.equal([undefined, undefined])
    expect(await codesOf(kernel, ...unbind)).to.deep.equal(['ESRCH', 'ESRCH'])
  })

  for (const [from, to] of [
    ['address', 'route'],
    ['route', 'address'],
  ] as const)
    it(`binds as ${to} what is bound as ${from}, and then unbinds that`, async () => {
      const all = (kind: 'bindAddress' | 'unbindAddress', binding: Binding): Operation[] =>
        [VIP, VIP6].map((address) => ({ kind, address, binding }))
      await kernel.execute(all('bindAddress', from))
      expect(await codesOf(kernel, ...all('bindAddress', to))).to.deep.equal([undefined, undefined])
      expect(await dump(kernel)).to.deep.equal([`${VIP} both`, `${VIP6} both`])
      expect(await codesOf(kernel, ...all('unbindAddress', from))).to.deep.equal([undefined, undefined])
      expect(await dump(kernel)).to.deep.equal(
        to === 'route' ? [`${VIP} route`, `${VIP6} route`] : [VIP, VIP6],
      )
    })

  it('adds and deletes set members of both families, and does not mind doing so twice', async () => {
    const members = [VIP, VIP6].map(ipvsIpsMember)
    const add = members.map((member) => ({ kind: 'addSetMember', member }) as const)
    const remove = members.map((member) => ({ kind: 'deleteSetMember', member }) as const)

    expect(await codesOf(kernel, ...add, ...add)).to.deep.equal([undefined, undefined, undefined, undefined])
    expect(await dump(kernel)).to.deep.equal([...members].sort())
    expect(await codesOf(kernel, ...remove, ...remove)).to.deep.equal([
      undefined,
      undefined,
      undefined,
      undefined,
    ])
    expect(await dump(kernel)).to.deep.equal([])
  })

  it('takes operations of all kinds in one plan, in order', async () => {
    const member = ipvsIpsMember(VIP)
    const plan: Operation[] = [
      { kind: 'addSetMember', member },
      operation(VS),
      operation(REAL),
      { kind: 'bindAddress', address: VIP, binding: 'address' },
      operation('-d -t 10.96.0.10:80 -r 10.244.0.1:8080'),
      { kind: 'unbindAddress', address: VIP, binding: 'address' },
      operation('-D -t 10.96.0.10:80'),
      { kind: 'deleteSetMember', member },
    ]

    expect(await codesOf(kernel, ...plan)).to.deep.equal(plan.map(() => undefined))
    expect(await dump(kernel)).to.deep.equal([])
  })

  it('reads the real servers of many virtual servers at once, and none of one that is missing', async () => {
    const ports = Array.from({ length: 300 }, (_, i) => 1_000 + i)
    const lines = ports.flatMap((port) => [
      `-A -t 10.96.0.10:${port} -s rr`,
      `-a -t 10.96.0.10:${port} -r 10.244.0.1:${port} -m -w 1`,
    ])
    await run(...lines)
    const ids = [...ports, 9]
      .map((port) => operation(`-A -t 10.96.0.10:${port} -s rr`))
      .map((made) => 'of' in made && made.of)

    const found = await kernel.readRealServers(ids.filter((id) => id !== false))

    expect(found.size).to.equal(301)
    expect([...found.values()].map((list) => list.map(({ port }) => port))).to.deep.equal([
      ...ports.map((port) => [port]),
      [],
    ])
  })
}

/** A random operation on few objects, so that many of them are refused. */
export function randomOperation(random: Random): Operation {
  const address = random.pick([VIP, '10.96.0.11' as Address, VIP6])
  const binding = random.pick(BINDINGS)
  const option = random.pick(['-t', '-u', '--sctp-service'])
  const last = 1 + random.int(3)
  const [server, target] = address === VIP6 ? [`[${VIP6}]`, `[fd00::${last}]`] : [address, `10.244.0.${last}`]
  const virtual = `${option} ${server}:80`
  const real = `${virtual} -r ${target}:8080`
  const scheduler = random.pick(['rr', 'wlc', 'sh', 'nosuch'])
  return random.pick<() => Operation>([
    () => operation(`-A ${virtual} -s ${scheduler}`),
    () => operation(`-E ${virtual} -s ${scheduler} -p 60`),
    () => operation(`-D ${virtual}`),
    () => operation(`-a ${real} -m -w ${random.int(3)}`),
    () => operation(`-e ${real} -m -w ${random.int(3)}`),
    () => operation(`-d ${real}`),
    () => ({ kind: 'bindAddress', address, binding }),
    () => ({ kind: 'unbindAddress', address, binding }),
    () => ({ kind: 'addSetMember', member: ipvsIpsMember(address) }),
    () => ({ kind: 'deleteSetMember', member: ipvsIpsMember(address) }),
  ])()
}
