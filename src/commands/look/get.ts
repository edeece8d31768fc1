/** `kube-ipvs get`: virtual and real servers with the Services and Pods that they are for. */
import { supportedFamilies } from '../../kernel/host/families.ts'
import { LinuxKernel } from '../../kernel/linux-kernel.ts'
import { emptyKernelState } from '../../model/kernel-object.ts'
import { loadAddon } from '../../netlink/socket.ts'
import { adoptTables } from '../../plan/audit.ts'
import { API_VERSION, type VirtualServerList } from '../../view/documents.ts'
import { isAt, parseSubject } from '../../view/subject.ts'
import { formatVirtualServers } from '../../view/tables.ts'
import { kernelView } from '../../view/virtual-server-view.ts'
import { ask, NoAnswerError } from './ask.ts'
import type { Command, CommandContext, ExitCode } from '../command.ts'
import { orPrintError, OUTPUT, print, printNote } from './output.ts'

/** Where only the kernel can be asked, which knows no Services. Throws an Error with a remedy. */
export async function readKernel(text: string): Promise<VirtualServerList> {
  const subject = text === '' ? undefined : parseSubject(text)
  if (subject?.kind === 'service')
    throw new Error(`The kernel alone knows no Service ${text}: ask for an address`)
  const kernel = await LinuxKernel.open({
    ...{ addon: loadAddon(), families: await supportedFamilies(), readOnly: true },
  })
  try {
    const tables = await kernel.readTables()
    const foreign = adoptTables(tables, emptyKernelState())
    const asked = tables.virtualServers.filter(({ id }) => subject === undefined || isAt(subject, id.key))
    const observed = await kernel.readRealServers(asked.map(({ id }) => id))
    return {
      ...{ apiVersion: API_VERSION, kind: 'VirtualServerList', source: 'kernel' },
      virtualServers: asked.map(({ id, settings }) =>
        kernelView(id, settings.scheduler, observed.get(id.key) ?? [], foreign.has(id.key)),
      ),
    }
  } finally {
    kernel.close()
  }
}

/** The running program's answer, or the kernel's where it has none. */
export async function findVirtualServers(socket: string, text: string): Promise<VirtualServerList> {
  try {
    return await ask<VirtualServerList>(socket, '/v1/virtual-servers', { of: text })
  } catch (error) {
    if (!(error instanceof NoAnswerError)) throw error
    printNote(`from the kernel alone: ${error.message}`)
    return readKernel(text)
  }
}

async function get(context: CommandContext): Promise<ExitCode> {
  const { operands, localSocket } = context.commandLine
  print(context, await findVirtualServers(localSocket, operands[0] ?? ''), formatVirtualServers)
  return 0
}

export const GET: Command = {
  name: 'get',
  description: 'show virtual and real servers with their Services and Pods: wanted, programmed, failing',
  operands: ['[service-or-address]'],
  options: [OUTPUT],
  run: (context) => orPrintError(() => get(context), 1),
}
