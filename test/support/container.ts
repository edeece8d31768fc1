/** Containers of the DaemonSet, made by a container runtime (crun) as kubelet has containerd or CRI-O make them. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Container } from './deploy.ts'
import { filesOfImage } from './image-files.ts'
import { sh, temporaryFolder } from './lab.ts'

/** Where each volume of the Pod is on the node. */
export type Volumes = Readonly<Record<string, string>>

/** What is on the node by the names that manifests use. */
const SECCOMP_PROFILES: Readonly<Record<string, string>> = {
  'kube-ipvs.json': 'deploy/profiles/seccomp.json',
}
/** That of CRI-O and Podman. Those of others refuse more, such as mount and unshare, which the program does not call. */
const RUNTIME_DEFAULT = '/usr/share/containers/seccomp.json'

const MASKED = ['acpi', 'asound', 'kcore', 'keys', 'latency_stats', 'sched_debug', 'scsi', 'timer_list']
const READ_ONLY = ['bus', 'fs', 'irq', 'sys', 'sysrq-trigger']

/** All that the kernel knows: those of a privileged container. */
export function allCapabilities(): string[] {
  const header = readFileSync('/usr/include/linux/capability.h', 'utf8')
  return [...header.matchAll(/^#define (CAP_\w+)\s+\d+$/gm)].map(([, name]) => name!)
}

interface Rule {
  readonly names: readonly string[]
  readonly action: string
  readonly errnoRet?: number
  readonly args?: readonly object[]
  readonly includes?: { readonly caps?: readonly string[]; readonly arches?: readonly string[] }
  readonly excludes?: { readonly caps?: readonly string[]; readonly arches?: readonly string[] }
}
export interface Seccomp {
  readonly defaultAction: string
  readonly defaultErrnoRet?: number
  readonly syscalls: readonly Rule[]
}

/** The runtime's profile, as far as it is for these capabilities. */
export function runtimeDefault(capabilities: readonly string[]): Seccomp {
  const { defaultAction, defaultErrnoRet, syscalls } = JSON.parse(
    readFileSync(RUNTIME_DEFAULT, 'utf8'),
  ) as Seccomp
  const has = (caps: readonly string[] = [], arches: readonly string[] = []): boolean =>
    caps.every((name) => capabilities.includes(name)) && (arches.length === 0 || arches.includes('amd64'))
  const rules = syscalls
    .filter(({ includes = {} }) => has(includes.caps, includes.arches))
    .filter(({ excludes: { caps = [] } = {} }) => !caps.some((name) => capabilities.includes(name)))
    .map(({ includes, excludes, args, ...rule }) => ({ ...rule, args: args ?? [] }))
  return { defaultAction, ...(defaultErrnoRet !== undefined && { defaultErrnoRet }), syscalls: rules }
}

function seccompOf(
  context: Container['securityContext'],
  capabilities: readonly string[],
): Seccomp | undefined {
  const { privileged = false, seccompProfile } = context
  if (privileged || seccompProfile === undefined) return undefined
  const { type, localhostProfile = '' } = seccompProfile
  return type === 'RuntimeDefault'
    ? runtimeDefault(capabilities)
    : (JSON.parse(readFileSync(SECCOMP_PROFILES[localhostProfile]!, 'utf8')) as Seccomp)
}

const mount = (destination: string, type: string, options: readonly string[]): object => ({
  ...{ destination, type, source: type },
  options,
})

/** Without a cgroup: nothing here is about them. */
function mountsOf({ securityContext, volumeMounts }: Container, volumes: Volumes): object[] {
  const sysfs = securityContext.privileged === true ? 'rw' : 'ro'
  return [
    mount('/proc', 'proc', ['nosuid', 'noexec', 'nodev']),
    mount('/dev', 'tmpfs', ['nosuid', 'strictatime', 'mode=755', 'size=65536k']),
    mount('/dev/pts', 'devpts', ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5']),
    mount('/dev/shm', 'tmpfs', ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k']),
    mount('/dev/mqueue', 'mqueue', ['nosuid', 'noexec', 'nodev']),
    mount('/sys', 'sysfs', ['nosuid', 'noexec', 'nodev', sysfs]),
    ...volumeMounts.map(({ name, mountPath, readOnly = false }) => ({
      ...{ destination: mountPath, type: 'bind', source: volumes[name] },
      options: ['rbind', 'rprivate', readOnly ? 'ro' : 'rw'],
    })),
  ]
}

function processOf({ command, args, securityContext }: Container, capabilities: readonly string[]): object {
  const { allowPrivilegeEscalation, appArmorProfile } = securityContext
  const variables = { NODE_NAME: 'node-1' }
  return {
    user: { uid: 0, gid: 0 },
    cwd: '/',
    env: [
      'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      ...Object.entries(variables).map(([name, value]) => `${name}=${value}`),
    ],
    args: [...command, ...args].map((word) => word.replaceAll('$(NODE_NAME)', variables.NODE_NAME)),
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    noNewPrivileges: allowPrivilegeEscalation === false,
    // As kubelet has it for system-node-critical.
    oomScoreAdj: -997,
    ...(appArmorProfile?.type === 'Localhost' && { apparmorProfile: appArmorProfile.localhostProfile }),
  }
}

/** config.json of the OCI's runtime specification; the network is the node's, which is where it is started. */
function specOf(container: Container, root: string, volumes: Volumes) {
  const { privileged = false, readOnlyRootFilesystem = false, capabilities } = container.securityContext
  const names = privileged ? allCapabilities() : (capabilities?.add ?? []).map((name) => `CAP_${name}`)
  const hidden = {
    maskedPaths: [...MASKED.map((name) => `/proc/${name}`), '/sys/firmware'],
    readonlyPaths: READ_ONLY.map((name) => `/proc/${name}`),
  }
  return {
    ociVersion: '1.0.2',
    process: processOf(container, names),
    root: { path: root, readonly: readOnlyRootFilesystem },
    hostname: 'lab',
    mounts: mountsOf(container, volumes),
    linux: {
      namespaces: ['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
      ...(!privileged && hidden),
      seccomp: seccompOf(container.securityContext, names),
    },
  }
}

/** CRI-O's, and containerd's: the first has the kernel log what is refused, which Debian's release of the second cannot. */
const RUNTIMES = {
  crun: { command: ['crun', '--cgroup-manager=disabled'], flags: ['SECCOMP_FILTER_FLAG_LOG'] },
  runc: { command: ['runc'], flags: undefined },
} as const
export type Runtime = keyof typeof RUNTIMES

/** A container that is not made yet. */
export interface Made {
  /** Makes and runs it, and passes on signals and the exit code. */
  readonly command: readonly string[]
  /** Runs something else in it, as `kubectl exec` does: kubelet has no more privileges for that. */
  readonly exec: readonly string[]
  readonly remove: () => Promise<unknown>
}

let count = 0

export function make(container: Container, root: string, volumes: Volumes, runtime: Runtime = 'crun'): Made {
  const id = `lab${process.pid}-${container.name}-${count++}`
  const { command, flags } = RUNTIMES[runtime]
  const { linux, ...spec } = specOf(container, root, volumes)
  const seccomp = linux.seccomp && { ...linux.seccomp, ...(flags !== undefined && { flags }) }
  const bundle = temporaryFolder()
  writeFileSync(join(bundle, 'config.json'), JSON.stringify({ ...spec, linux: { ...linux, seccomp } }))
  return {
    command: [...command, 'run', '--bundle', bundle, id],
    exec: [...command, 'exec', '--no-new-privs', id],
    remove: () => sh(`${command.join(' ')} delete -f ${id} 2>/dev/null || true`),
  }
}

/** Files of /etc that the image has, and one that a container has no business with. */
const ETC =
  'alternatives ethertypes group hosts ld.so.cache modprobe.d nsswitch.conf passwd protocols services'

/** A root as the image's, with this machine's programs and libraries; the paths are those of the Dockerfile. */
export async function imageRoot(): Promise<string> {
  const root = temporaryFolder()
  const home = join(root, 'usr/local/lib/kube-ipvs')
  await sh(`
    mount -t tmpfs tmpfs ${root}
    cd ${root}
    mkdir -p dev etc proc root run sys tmp usr var/lib/kube-proxy
    for folder in bin lib lib64 sbin; do ln -s usr/$folder $folder; done
    ln -s ../run var/run
    mount --bind /usr usr
    mount -o remount,ro,bind usr
    mount -t tmpfs tmpfs usr/local
    mkdir -p usr/local/bin ${home}
    touch usr/local/bin/node
    mount --bind ${process.execPath} usr/local/bin/node
    for name in kube-ipvs kube-proxy; do ln -s ../lib/kube-ipvs/dist/kube-ipvs.cjs usr/local/bin/$name; done
    for file in ${ETC}; do [ ! -e /etc/$file ] || cp -a /etc/$file etc; done
    mkdir etc/ssl
    cp -aL /etc/ssl/openssl.cnf /etc/ssl/certs etc/ssl
    echo nameserver 127.0.0.1 > etc/resolv.conf
    for file in etc/shadow root/secret; do echo secret > $file; done`)
  await sh(`cp -L --parents ${filesOfImage(process.arch).join(' ')} ${home}`)
  return root
}
