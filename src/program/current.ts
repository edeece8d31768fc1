/** What the running program goes by now, and what may be another tomorrow. */
import type { Config, LoadedConfig } from '../config/config.ts'
import type { Address } from '../model/address.ts'
import type { ExternalPolicy } from '../model/claims/external-policy.ts'

/** Who follows something replaces it here; who needs it reads it here each time. */
export interface Current {
  /** Replaced when its file changes. */
  config: Config
  /** The configuration as it is published; replaced with it. */
  document: object
  /** Which external addresses namespaces may have; undefined: all. Replaced when its file changes. */
  policy: ExternalPolicy | undefined
  /** Of all interfaces but kube-ipvs0; replaced when one changes. Empty until they have been read. */
  nodeAddresses: readonly Address[]
  /** What an operator has drained, and since when; replaced at each change. It ends with the process. */
  drains: ReadonlyMap<string, Date>
  /** What was said when the Nodes were listed and this one was not among them. */
  missingNode: string | undefined
}

export function initially(
  { config, document }: Pick<LoadedConfig, 'config' | 'document'>,
  policy: ExternalPolicy | undefined,
): Current {
  return { config, document, policy, nodeAddresses: [], drains: new Map(), missingNode: undefined }
}
