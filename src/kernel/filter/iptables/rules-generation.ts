/** Whether rules have changed, asked of nf_tables, where the rules of iptables-nft are, too: it starts no program. */
import { readU32be, visitAttributes } from '../../../netlink/attribute.ts'
import { NetlinkConnection } from '../../../netlink/connection.ts'
import { NetlinkError } from '../../../netlink/error.ts'
import type { Message } from '../../../netlink/message.ts'
import type { Socket } from '../../../netlink/socket.ts'
import { NETLINK_NETFILTER, NFGENMSG_BYTES } from '../../netfilter.ts'

const NFNL_SUBSYS_NFTABLES = 10
const NFT_MSG_GETGEN = 16
const NFTA_GEN_ID = 1

/** Counts the changes of all rules in this network namespace; undefined for a kernel without nf_tables. */
export async function rulesGeneration(addon: Socket): Promise<number | undefined> {
  const connection = new NetlinkConnection(addon, NETLINK_NETFILTER)
  try {
    const [answer] = await connection.read((batch) => {
      batch.begin((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN)
      // struct nfgenmsg: family, version, resource id.
      batch.appendBytes(0)
      batch.end()
    }, 'Cannot read the generation of the rules')
    return answer && decodeGeneration(answer)
  } catch (error) {
    if (error instanceof NetlinkError) return undefined
    throw error
  } finally {
    connection.close()
  }
}

function decodeGeneration({ buffer, start, end }: Message): number | undefined {
  let generation: number | undefined
  visitAttributes(buffer, start + NFGENMSG_BYTES, end, (type, at, length) => {
    if (type === NFTA_GEN_ID) generation = readU32be(buffer, at, length, 'NFTA_GEN_ID')
  })
  return generation
}
