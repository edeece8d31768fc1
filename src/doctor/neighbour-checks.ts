/** Who else works on the tables of this node: other proxies, and firewalls of nftables. */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { type Check, finding, type Finding } from './check.ts'

/** Programs that write what is ours, or answer for the same addresses. */
const RIVALS: Readonly<Record<string, string>> = {
  'kube-proxy': 'both write the same tables: stop it on this node (docs/operations.md#install)',
  keepalived: 'its virtual servers stay; list its addresses in ipvs.excludeCIDRs',
  'kube-vip':
    'its addresses are served, and not bound; list them in ipvs.excludeCIDRs where it balances with IPVS',
  'kube-router': 'run it with --run-service-proxy=false',
  'cilium-agent': 'set kubeProxyReplacement: false, or do not run kube-ipvs',
}

/** /proc/PID/comm has 15 characters at most. */
const COMM_LENGTH = 15

/** The processes of this machine, by their names. `proc` is for tests. */
function processNames(proc: string): string[] {
  return readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [readFileSync(`${proc}/${pid}/comm`, 'utf8').trim()]
      } catch {
        return []
      }
    })
}

export function checkRivals(proc = '/proc'): Finding[] {
  const running = new Set(processNames(proc))
  return Object.entries(RIVALS)
    .filter(([name]) => running.has(name.slice(0, COMM_LENGTH)))
    .map(([name, remedy]) => finding(`${name} runs on this node`, remedy, 'docs/operations.md#install'))
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
  const listed = await promisify(execFile)('nft', ['-j', 'list', 'chains']).catch(() => undefined)
  return listed === undefined ? [] : droppingChains(listed.stdout)
}

export const NEIGHBOUR_CHECKS: readonly Check[] = [
  { category: 'conflicts', run: () => Promise.resolve(checkRivals()) },
  { category: 'firewall', run: checkFirewall },
]
