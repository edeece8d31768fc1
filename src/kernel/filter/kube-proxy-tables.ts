/** kube-proxy's nftables mode has a table for each family: it would go on translating what is ours. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { FAMILIES, type Family } from '../../model/address.ts'
import { NetlinkConnection } from '../../netlink/connection.ts'
import { NetlinkError } from '../../netlink/error.ts'
import type { MessageWriter } from '../../netlink/message.ts'
import type { Socket } from '../../netlink/socket.ts'
import { familyNumber } from '../address-family.ts'
import { NETLINK_NETFILTER } from '../netfilter.ts'

const NFNL_SUBSYS_NFTABLES = 10
const NFT_MSG_GETTABLE = 1
const NFTA_TABLE_NAME = 1

const TABLE = 'kube-proxy'
/** nft's name of a family. */
const NFT_FAMILIES: Readonly<Record<Family, string>> = { IPv4: 'ip', IPv6: 'ip6' }

/** Asks for a table; ENOENT when there is none (linux/netfilter/nf_tables.h). */
function encodeTableGet(batch: MessageWriter, family: Family, name: string): void {
  batch.begin((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETTABLE)
  // struct nfgenmsg: family, version, resource id.
  batch.appendBytes(familyNumber(family))
  batch.putString(NFTA_TABLE_NAME, name)
  batch.end()
}

/** The families in which kube-proxy has left a table. A kernel without nf_tables has none. Only reads. */
export async function kubeProxyTables(addon: Socket): Promise<Family[]> {
  const connection = new NetlinkConnection(addon, NETLINK_NETFILTER)
  const exists = (family: Family): Promise<boolean> =>
    connection
      .read((batch) => {
        encodeTableGet(batch, family, TABLE)
      }, 'Cannot look for tables of nftables')
      .then(
        () => true,
        (error: unknown) => {
          if (error instanceof NetlinkError) return false
          throw error
        },
      )
  try {
    const found = await Promise.all(FAMILIES.map(async (family) => ((await exists(family)) ? [family] : [])))
    return found.flat()
  } finally {
    connection.close()
  }
}

/** `nft delete table ip kube-proxy` */
export function tableDeletion(family: Family): string {
  return `nft delete table ${NFT_FAMILIES[family]} ${TABLE}`
}

/** Deletes the tables that are there, and returns their families. Throws an Error with the remedy. */
export async function removeKubeProxyTables(addon: Socket): Promise<Family[]> {
  const families = await kubeProxyTables(addon)
  for (const family of families) {
    const [program, ...args] = tableDeletion(family).split(' ')
    await promisify(execFile)(program!, args).catch((cause: unknown) => {
      const remedy = `run "${tableDeletion(family)}" on the node`
      throw new Error(`Cannot delete the table of kube-proxy's nftables mode: ${remedy}`, { cause })
    })
  }
  return families
}
