/** Generic netlink: one protocol for many families (linux/genetlink.h). */
import { readU16, visitAttributes } from './attribute.ts'
import type { NetlinkConnection } from './connection.ts'
import { DecodeError } from './error.ts'
import type { MessageWriter } from './message.ts'

export const NETLINK_GENERIC = 16
/** Size of struct genlmsghdr, which stands before the attributes. */
export const GENERIC_HEADER_BYTES = 4

const GENL_ID_CTRL = 16
const CTRL_CMD_GETFAMILY = 3
const CTRL_ATTR_FAMILY_ID = 1
const CTRL_ATTR_FAMILY_NAME = 2

/** Appends struct genlmsghdr. */
export function appendGenericHeader(batch: MessageWriter, command: number, version: number): void {
  batch.appendBytes(command, version)
}

/** The number of a generic netlink family. Throws NetlinkError ENOENT when the kernel does not have it. */
export async function resolveGenlFamilyId(connection: NetlinkConnection, name: string): Promise<number> {
  const messages = await connection.read((batch) => {
    batch.begin(GENL_ID_CTRL)
    appendGenericHeader(batch, CTRL_CMD_GETFAMILY, 1)
    batch.putString(CTRL_ATTR_FAMILY_NAME, name)
    batch.end()
  }, `Cannot find the generic netlink family ${name}`)
  let id: number | undefined
  for (const { buffer, start, end } of messages) {
    visitAttributes(buffer, start + GENERIC_HEADER_BYTES, end, (type, at, length) => {
      if (type === CTRL_ATTR_FAMILY_ID) id = readU16(buffer, at, length, 'CTRL_ATTR_FAMILY_ID')
    })
  }
  if (id === undefined) throw new DecodeError(`Cannot decode the generic netlink family ${name}: no id`)
  return id
}
