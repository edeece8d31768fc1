/** Whether the proxy runs on this node, answers, and gets what it wants from the kernel. */
import type { VirtualServerList } from '../view/documents.ts'
import { type Check, finding, type Finding, note } from './check.ts'

/** So many are told one by one. */
const TOLD = 10

function failuresOf({ virtualServers }: VirtualServerList): Finding[] {
  const failing = virtualServers.flatMap(({ service, virtualServer, failures }) =>
    failures.map(({ object, reason }) => `${object} of ${service ?? virtualServer} fails: ${reason}`),
  )
  const told = [...new Set(failing)]
  const more = told.length > TOLD ? [`${told.length - TOLD} more objects fail`] : []
  return [...told.slice(0, TOLD), ...more].map((what) =>
    finding(what, 'it is tried again; see "kube-ipvs get" for all of them'),
  )
}

function drainsOf({ drained = [] }: VirtualServerList): Finding[] {
  return drained.map((name) =>
    note(
      `${name} is drained by hand, and gets no new connections`,
      `kube-ipvs undrain ${name}`,
      'docs/inspection.md#drain-and-undrain-a-pod-out-of-service-on-this-node',
    ),
  )
}

/** `ask` throws when the process does not answer. */
export function processChecks(ask: () => Promise<VirtualServerList>): Check[] {
  const run = async (): Promise<Finding[]> => {
    try {
      const list = await ask()
      return [...drainsOf(list), ...failuresOf(list)]
    } catch (error) {
      const remedy =
        'start it, or end it where it is frozen: this node serves on as it is, and learns of no change'
      return [finding((error as Error).message, remedy)]
    }
  }
  return [{ category: 'process', run }]
}
