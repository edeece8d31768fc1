/**
 * The containers of the DaemonSet, made by a container runtime of the manifests: what they may do is enough, each of it is
 * needed, and all else is refused.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { parse } from 'yaml'
import { ApiServer } from '../support/api-server.ts'
import { node, service, slice } from '../support/builders.ts'
import {
  allCapabilities,
  imageRoot,
  type Made,
  type Runtime,
  make,
  type Seccomp,
  type Volumes,
} from '../support/container.ts'
import { type Container, manifestsOf, type PodSpec, podSpecOf, render } from '../support/deploy.ts'
import { eventually } from '../support/eventually.ts'
import {
  clearNode,
  ConfigMapVolume,
  Host,
  ipvsadm,
  prepareNode,
  Program,
  run,
  sh,
  temporaryFolder,
} from '../support/lab.ts'
import { syscallNames } from '../support/syscalls.ts'

const VIP = '10.96.0.10'
const NODE = '10.244.1.1'
const NODE_PORT = 30_080
const PATIENCE_MS = 60_000
/** linux/capability.h: NET_ADMIN and NET_RAW. */
const ALLOWED_MASK = '0000000000003000'
const SERVING = [`-A -t ${VIP}:80 -s rr`, `-A -t ${NODE}:${NODE_PORT} -s rr`]

const COMPONENTS = ['deploy/components/seccomp', 'deploy/components/apparmor']
const podOf = (...components: readonly string[]): PodSpec =>
  podSpecOf(render('deploy/base', ...components).find(({ kind }) => kind === 'DaemonSet')!)
const [BASE, PROFILED] = [podOf(), podOf(...COMPONENTS)]

/** Calls that have another way, which is taken. */
const [OTHER_WAYS] = (
  JSON.parse(readFileSync('deploy/profiles/seccomp.json', 'utf8')) as Seccomp
).syscalls.filter(({ action }) => action === 'SCMP_ACT_ERRNO')

type Context = Container['securityContext']
/** The main container, with another context, or another command. */
const main = ({ containers: [container] }: PodSpec, context: Context = {}, script?: string[]): Container => ({
  ...container!,
  ...(script !== undefined && { command: script, args: [] }),
  securityContext: { ...container!.securityContext, ...context },
})
const withCapabilities = (...add: readonly string[]): Context => ({ capabilities: { drop: ['ALL'], add } })

let root: string
let api: ApiServer
let volumes: Volumes
let client: Host
const servers: Host[] = []
const made: Made[] = []
const started: Program[] = []

/** What kubelet mounts into every container. */
const TOKEN = { name: 'token', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount', readOnly: true }

function create(container: Container, runtime?: Runtime): Made {
  const one = make({ ...container, volumeMounts: [...container.volumeMounts, TOKEN] }, root, volumes, runtime)
  made.push(one)
  return one
}

async function start(container: Container): Promise<{ program: Program; made: Made }> {
  const one = create(container)
  const program = Program.ofCommand(one.command)
  started.push(program)
  // One that has ended does not come to that.
  await Promise.race([program.logged('first sync finished'), program.ended()])
  expect(program.process.exitCode, program.lines.map(({ msg }) => msg).join('\n')).to.equal(null)
  return { program, made: one }
}

/** Standard output of a container that ends by itself. */
async function output(container: Container, runtime?: Runtime): Promise<string> {
  const program = Program.ofCommand(create(container, runtime).command)
  const code = await program.ended()
  expect(code, program.lines.map(({ msg }) => msg).join('\n')).to.equal(0)
  return program.stdout
}

/** The files of deploy/base's ConfigMap, for the API server that there is. */
function configMap(): Record<string, string> {
  const [{ data }] = manifestsOf('deploy/base/configmap.yaml') as unknown as [
    { data: Record<string, string> },
  ]
  const server = /server: .+/
  expect(data['kubeconfig.conf']).to.match(server)
  return { ...data, 'kubeconfig.conf': data['kubeconfig.conf']!.replace(server, `server: ${api.url}`) }
}

function serviceAccount(): string {
  const folder = temporaryFolder()
  const { clusters } = parse(api.kubeconfig()) as {
    clusters: { cluster: { 'certificate-authority-data': string } }[]
  }
  const authority = clusters[0]!.cluster['certificate-authority-data']
  writeFileSync(join(folder, 'ca.crt'), Buffer.from(authority, 'base64'))
  writeFileSync(join(folder, 'token'), api.token)
  return folder
}

function publish(address: string): void {
  const ports = [{ name: 'http', port: 80, protocol: 'TCP', nodePort: NODE_PORT }]
  api.put('services', service({ ports, spec: { type: 'NodePort' } }))
  api.put('endpointslices', slice({ endpoints: [address] }))
}

const answering = async (address: string, port: number): Promise<string[]> => {
  const { answers, errors } = await client.connect('tcp', address, port)
  return Object.keys({ ...answers, ...errors })
}
const answered = async (name: string): Promise<unknown> =>
  eventually(async () => {
    expect(await answering(VIP, 80)).to.deep.equal([name])
    expect(await answering(NODE, NODE_PORT)).to.deep.equal([name])
  }, PATIENCE_MS)

/** What the kernel has refused since `before`: calls by their names, and what AppArmor says. */
async function refused(before: number): Promise<string[]> {
  const names = syscallNames()
  const lines = (await run('dmesg', '--notime')).split('\n').slice(before)
  const found = lines.flatMap((line) => {
    const call = / type=1326 .* syscall=(\d+)/.exec(line)?.[1]
    if (call !== undefined) return names.get(Number(call)) ?? call
    return line.includes('apparmor="DENIED"') ? line.replace(/.*apparmor=/, 'apparmor=') : []
  })
  return [...new Set(found)].sort()
}
/** What was refused has another way, and that it was is seen: each start tries clone3. */
async function onlyOtherWays(before: number): Promise<void> {
  const calls = await refused(before)
  expect(calls).to.include('clone3')
  expect(OTHER_WAYS!.names).to.include.members(calls)
}
const logged = async (): Promise<number> => (await run('dmesg')).split('\n').length - 1

before(async () => {
  await prepareNode()
  // Each refusal is in the log, however many there are.
  await sh(`
    sysctl -qw kernel.printk_ratelimit=0
    mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup /sys/fs/cgroup
    mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
    touch /run/xtables.lock
    apparmor_parser --replace --skip-cache deploy/profiles/apparmor`)
  api = await ApiServer.start()
  for (const name of ['a', 'b', 'c']) servers.push(await Host.add(name, servers.length + 1))
  client = servers.pop()!
  await Promise.all(servers.map((host) => host.serve()))
  api.load('nodes', [node() as never])
  const config = new ConfigMapVolume()
  config.publish(configMap())
  volumes = {
    ...{ config: config.folder, modules: '/lib/modules', token: serviceAccount() },
    ...{ 'xtables-lock': '/run/xtables.lock', run: temporaryFolder() },
  }
  root = await imageRoot()
  publish(servers[0]!.ipv4)
  await sh('sysctl -qw net.ipv4.ip_forward=0')
  await output(BASE.initContainers[0]!)
})
afterEach(async () => {
  await Promise.all(started.splice(0).map((program) => program.stop()))
  await Promise.all(made.splice(0).map(({ remove }) => remove()))
})
after(async () => {
  await sh('apparmor_parser --remove deploy/profiles/apparmor || true; sysctl -qw kernel.printk_ratelimit=5')
  await Promise.all([...servers, client].map((host) => host.remove()))
  await api.close()
})

describe('deploy/base, made by a container runtime', () => {
  it('prepares the node in its init container', async () => {
    const names = ['ip_forward', 'vs/conntrack', 'vs/expire_nodest_conn']
    const values = names.map((name) => readFileSync(`/proc/sys/net/ipv4/${name}`, 'utf8').trim())
    expect(values).to.deep.equal(['1', '1', '1'])
    expect(await ipvsadm()).to.deep.equal([])
  })

  it("serves under the runtime's own profile, and follows endpoints", async () => {
    const { program } = await start(main(BASE))
    await answered('a')
    publish(servers[1]!.ipv4)
    await answered('b')

    expect(program.complaints()).to.deep.equal([])
    expect(await program.stop()).to.equal(0)
  })
})

describe('with the profiles of deploy/profiles', () => {
  it('serves, is asked, and starts again on what it has left; nothing that it needs is refused', async () => {
    publish(servers[0]!.ipv4)
    const before = await logged()
    let { program, made } = await start(main(PROFILED))
    await answered('a')
    publish(servers[1]!.ipv4)
    await answered('b')
    const exec = (...args: readonly string[]): Promise<string> =>
      run(made.exec[0]!, ...made.exec.slice(1), 'kube-ipvs', ...args)
    // Nobody answers; what is refused shows in the log.
    await run(made.exec[0]!, ...made.exec.slice(1), 'node', '-e', `dns.lookup('api.test', () => undefined)`)
    expect(await exec('get', 'shop/web')).to.contain(`${VIP}:80`)
    expect(await exec('explain', 'shop/web', '--from', client.ipv4)).to.contain(servers[1]!.ipv4)
    expect(await exec('doctor').catch((error: unknown) => (error as { stdout: string }).stdout)).not.to.match(
      /capability|nft does not work/,
    )
    expect(await program.stop()).to.equal(0)
    ;({ program, made } = await start(main(PROFILED)))

    expect(await program.changes()).to.deep.equal({})
    expect(program.complaints()).to.deep.equal([])
    await program.stop()
    await onlyOtherWays(before)
  })

  it('starts under runc, too: what it calls once the profile is there is in the profile', async () => {
    const version = await output(main(PROFILED, {}, ['/usr/local/bin/kube-ipvs', '--version']), 'runc')
    expect(version).to.match(/^\d+\.\d+\.\d+\n$/)
  })

  it('has two capabilities, both profiles, and no way to more', async () => {
    const status = await output(main(PROFILED, {}, ['/usr/local/bin/node', '-p', STATUS]))

    expect(JSON.parse(status)).to.deep.equal({
      CapInh: '0000000000000000',
      ...{ CapPrm: ALLOWED_MASK, CapEff: ALLOWED_MASK, CapBnd: ALLOWED_MASK, CapAmb: '0000000000000000' },
      ...{ NoNewPrivs: '1', Seccomp: '2', Uid: '0', label: 'kube-ipvs (enforce)', isReadOnly: true },
    })
  })
})

/** What a process is, in one line. */
const STATUS = `
  const status = Object.fromEntries(fs.readFileSync('/proc/self/status', 'utf8').split('\\n').map((line) => line.split(/:?\\s+/)))
  const { CapInh, CapPrm, CapEff, CapBnd, CapAmb, NoNewPrivs, Seccomp, Uid } = status
  const label = fs.readFileSync('/proc/self/attr/current', 'utf8').trim()
  const isReadOnly = / \\/ \\S*\\bro\\b/.test(fs.readFileSync('/proc/self/mountinfo', 'utf8'))
  JSON.stringify({ CapInh, CapPrm, CapEff, CapBnd, CapAmb, NoNewPrivs, Seccomp, Uid, label, isReadOnly })`

describe('each capability is needed', () => {
  beforeEach(clearNode)

  it('NET_ADMIN: without it the program ends, and says what it needs', async () => {
    const program = Program.ofCommand(create(main(PROFILED, withCapabilities('NET_RAW'))).command)
    started.push(program)

    expect(await program.ended()).to.equal(1)
    expect(program.complaints().map(({ msg }) => msg)).to.deep.equal([
      'Not permitted to use IPVS: run as root, or with the capability NET_ADMIN',
    ])
  })

  for (const variant of ['nft', 'legacy']) {
    const hasRules = async (): Promise<boolean> =>
      (await run(`iptables-${variant}-save`)).includes('--match-set KUBE-CLUSTER-IP')

    it(`NET_RAW: there are rules of iptables-${variant} with it, and without it a reason why not`, async () => {
      // As kubelet does, for both families: ip6_tables is there then, which no container may load.
      for (const tables of ['iptables', 'ip6tables'])
        await sh(`${tables}-${variant} -t mangle -N KUBE-KUBELET-CANARY`)
      const { program: without } = await start(main(PROFILED, withCapabilities('NET_ADMIN')))
      await eventually(() => expect(without.complaints()).to.have.length(2), PATIENCE_MS)
      for (const { msg, reason } of without.complaints())
        expect(reason ?? msg).to.match(
          /^ip6?tables-(nft-)?restore failed for IPv[46]: rules that ask sets take a raw socket: run kube-ipvs as root with CAP_NET_RAW$/,
        )
      expect(await ipvsadm()).to.include.members(SERVING)
      expect(await hasRules()).to.equal(false)
      await without.stop()

      const before = await logged()
      const { program } = await start(main(PROFILED))
      await eventually(async () => expect(await hasRules()).to.equal(true), PATIENCE_MS)
      expect(program.complaints()).to.deep.equal([])
      await program.stop()
      await onlyOtherWays(before)
    })
  }
})

/** Asks the kernel for what is no business of a proxy, with arguments that make no sense: prints the errors. */
const CALLS: Readonly<Record<string, number | readonly number[]>> = {
  ...{ bpf: 321, chroot: 161, finit_module: 313, init_module: 175, io_uring_setup: 425, keyctl: 250 },
  ...{ mknod: 133, mount: 165, open_by_handle_at: 304, perf_event_open: 298, pivot_root: 155, ptrace: 101 },
  ...{ process_vm_readv: 310, setns: 308, swapon: 167, umount2: 166, unshare: 272, userfaultfd: 323 },
}
/** By what they would open. */
const ARGUMENTS: Readonly<Record<string, readonly number[]>> = {
  ...{ 'socket of AF_PACKET': [41, 17, 3, 0], 'socket of AF_KEY': [41, 15, 3, 2] },
  'clone of a user namespace': [56, 0x10000000 | 17, 0, 0, 0, 0],
}
const ASK = `
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
found = {}
for name, (number, *args) in json.loads(sys.argv[1]).items():
    parent = os.getpid()
    result = libc.syscall(number, *[ctypes.c_long(one) for one in args])
    if os.getpid() != parent: os._exit(0)
    found[name] = errno.errorcode[ctypes.get_errno()] if result < 0 else 'allowed'
print(json.dumps(found))`

/** Files and programs, as an intruder would try them. */
const TRY = `
  const child = require('node:child_process')
  const attempts = {
    'read /etc/shadow': () => fs.readFileSync('/etc/shadow'),
    'read /root': () => fs.readFileSync('/root/secret'),
    'list /root': () => fs.readdirSync('/root'),
    'write /etc': () => fs.appendFileSync('/etc/passwd', ''),
    'write the program': () => fs.appendFileSync('/usr/local/lib/kube-ipvs/dist/main.cjs', ''),
    'write /tmp': () => fs.writeFileSync('/tmp/x', ''),
    'run a shell': () => child.execFileSync('/bin/sh', ['-c', 'exit 0']),
    'run Python': () => child.execFileSync('/usr/bin/python3', ['-c', '']),
    'use another capability': () => os.setPriority(-5),
  }
  const attempt = (act) => { try { act(); return 'allowed' } catch ({ code, info }) { return info?.code ?? code } }
  JSON.stringify(Object.fromEntries(Object.entries(attempts).map(([name, act]) => [name, attempt(act)])))`

describe('what is in no profile is refused, by the profile alone', () => {
  /** With all that a capability or a read-only root would refuse in its place. */
  const WIDE: Context = { privileged: true, readOnlyRootFilesystem: false }
  const open = (): Context => ({
    ...withCapabilities(...allCapabilities().map((name) => name.replace('CAP_', ''))),
    readOnlyRootFilesystem: false,
  })
  const parsed = async (container: Container): Promise<Record<string, string>> =>
    JSON.parse(await output(container)) as Record<string, string>

  it('calls: seccomp.json', async () => {
    const odd = Object.entries(CALLS).map(([name, number]) => [name, [number, ...Array<number>(5).fill(-1)]])
    const calls = JSON.stringify({ ...(Object.fromEntries(odd) as object), ...ARGUMENTS })
    const script = ['/usr/bin/python3', '-c', ASK, calls]
    const free = await parsed(main(BASE, WIDE, script))
    const profiled = await parsed(main(podOf(COMPONENTS[0]!), open(), script))

    expect(Object.values(free)).not.to.include('EPERM')
    expect(profiled).to.deep.equal({
      ...(Object.fromEntries(Object.keys(free).map((name) => [name, 'EPERM'])) as object),
      io_uring_setup: 'ENOSYS',
    })
  })

  it('files, programs and capabilities: apparmor', async () => {
    const script = ['/usr/local/bin/node', '-p', TRY]
    const free = await parsed(main(BASE, WIDE, script))
    const { seccompProfile: _, ...context } = open()
    const profiled = await parsed(main(podOf(COMPONENTS[1]!), context, script))

    expect(new Set(Object.values(free)), JSON.stringify(free)).to.deep.equal(new Set(['allowed']))
    expect(new Set(Object.values(profiled)), JSON.stringify(profiled)).to.deep.equal(new Set(['EACCES']))
  })
})
