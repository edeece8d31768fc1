/** Who else works on the tables of this node: other proxies, and firewalls of nftables. */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import type { Config } from '../config/config.ts'
import { type Check, finding, type Finding, note } from './check.ts'

const NFT_MS = 5_000
const NFT_BYTES = 64 * 1024 * 1024

interface Running {
  readonly name: string
  readonly commandLine: string
}

/** A program that writes what is ours, or answers for the same addresses. */
interface Rival {
  readonly name: string
  readonly remedy: string
  /** It has been told to leave our part alone, or we know of its addresses. */
  readonly isTamed: (running: Running, config: Pick<Config, 'excludeCidrs'>) => boolean
}

const hasItsAddresses: Rival['isTamed'] = (_, { excludeCidrs }) => excludeCidrs.length > 0

const RIVALS: readonly Rival[] = [
  {
    name: 'kube-proxy',
    remedy: 'both write the same tables: stop it on this node (docs/operations.md#install)',
    isTamed: () => false,
  },
  {
    name: 'keepalived',
    remedy: 'its virtual servers stay; list its addresses in ipvs.excludeCIDRs',
    isTamed: hasItsAddresses,
  },
  {
    name: 'kube-vip',
    remedy: 'list its addresses in ipvs.excludeCIDRs',
    isTamed: hasItsAddresses,
  },
  {
    name: 'kube-router',
    remedy: 'run it with --run-service-proxy=false',
    isTamed: ({ commandLine }) => commandLine.includes('--run-service-proxy=false'),
  },
]

/** The kernel's own second process: who sees it sees all processes of the machine. */
const KERNEL_THREADS = 'kthreadd'

/** The processes that can be seen. */
function processes(proc: string): Running[] {
  const read = (pid: string, file: string): string => readFileSync(`${proc}/${pid}/${file}`, 'utf8')
  return readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [{ name: read(pid, 'comm').trim(), commandLine: read(pid, 'cmdline').replaceAll('\0', ' ') }]
      } catch {
        return []
      }
    })
}

/** `proc` is for tests. */
export function checkRivals(config: Pick<Config, 'excludeCidrs'>, proc = '/proc'): Finding[] {
  const running = processes(proc)
  if (!running.some(({ name }) => name === KERNEL_THREADS))
    return [
      note(
        'processes of the host cannot be seen from here: other proxies are not looked for',
        'run it on the host',
      ),
    ]
  return RIVALS.flatMap(({ name, remedy, isTamed }) =>
    running.some((one) => one.name === name && !isTamed(one, config))
      ? [finding(`${name} runs on this node`, remedy, 'docs/operations.md#install')]
      : [],
  )
}

interface NftChain {
  readonly family: string
  readonly table: string
  readonly name: string
  readonly hook?: string
  readonly policy?: string
}

/** Chains that drop what no rule of theirs accepts, in tables that are not those of iptables. */
export function droppingChains(text: string): Finding[] {
  const { nftables } = JSON.parse(text) as { nftables: { chain?: NftChain }[] }
  const IPTABLES = ['filter', 'nat', 'mangle', 'raw', 'security']
  return nftables
    .flatMap(({ chain }) => chain ?? [])
    .filter(({ family, table }) => !(['ip', 'ip6'].includes(family) && IPTABLES.includes(table)))
    .filter(({ hook, policy }) => (hook === 'input' || hook === 'forward') && policy === 'drop')
    .map(({ family, table, name }) =>
      finding(
        `chain ${name} of nftables table ${family} ${table} drops what it does not accept: rules of iptables do not help there`,
        `accept in it what is for Services, such as the mark 0x4000 and the networks of cluster IPs and Pods`,
        'docs/operations.md#a-firewall-that-drops-input',
      ),
    )
}

async function checkFirewall(): Promise<readonly Finding[]> {
  const options = { timeout: NFT_MS, maxBuffer: NFT_BYTES }
  const listed = await promisify(execFile)('nft', ['-j', 'list', 'chains'], options).catch(() => undefined)
  return listed === undefined
    ? [
        note(
          'nft does not work here: chains of nftables are not looked at',
          'install nftables, or run it on the host',
        ),
      ]
    : droppingChains(listed.stdout)
}

export function neighbourChecks(config: Pick<Config, 'excludeCidrs'>): Check[] {
  return [
    { category: 'conflicts', run: () => Promise.resolve(checkRivals(config)) },
    { category: 'firewall', run: checkFirewall },
  ]
}
