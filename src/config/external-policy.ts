/** A list of networks for each namespace, in which its Services may have external and load-balancer IPs. Pure. */
import { type Cidr, parseCidr } from '../model/cidr.ts'
import { EVERYBODY, type ExternalPolicy } from '../model/claims/external-policy.ts'
import { ConfigError, expected } from './config-error.ts'
import { readYaml } from './yaml.ts'

const API_VERSION = 'kube-ipvs.io/v1alpha1'
const KIND = 'ExternalAddressPolicy'
/** A namespace's name is a label of DNS (RFC 1123). */
const NAMESPACE = /^(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?$/

type Fields = Readonly<Record<string, unknown>>

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A sentence for each field that is not as it has to be. */
function headFaults({ apiVersion, kind, namespaces, ...others }: Fields): string[] {
  return [
    ...(apiVersion === API_VERSION ? [] : [`apiVersion: ${expected(`"${API_VERSION}"`, apiVersion)}`]),
    ...(kind === KIND ? [] : [`kind: ${expected(`"${KIND}"`, kind)}`]),
    ...(isFields(namespaces) ? [] : [`namespaces: ${expected('networks by namespace', namespaces)}`]),
    ...Object.keys(others).map((name) => `${name}: there is no such field`),
  ]
}

/** The networks of one namespace; what is wrong with them is added to the faults. */
function networksOf(namespace: string, value: unknown, faults: string[]): Cidr[] {
  if (namespace !== EVERYBODY && !NAMESPACE.test(namespace))
    faults.push(`namespaces: ${expected(`names of namespaces or "${EVERYBODY}"`, namespace)}`)
  const path = `namespaces.${namespace}`
  if (!Array.isArray(value)) {
    faults.push(`${path}: ${expected('a list of networks such as 192.0.2.0/24', value)}`)
    return []
  }
  return value.flatMap((text: unknown, i) => {
    const cidr = typeof text === 'string' ? parseCidr(text) : undefined
    if (cidr === undefined)
      faults.push(
        `${path}[${i}]: ${expected('a network such as 192.0.2.0/24, or 192.0.2.1/32 for one address', text)}`,
      )
    return cidr ?? []
  })
}

/** Parses a file's text, YAML or JSON. Throws ConfigError with all faults, each naming its field. */
export function parseExternalPolicy(file: string, text: string): ExternalPolicy {
  const { value } = readYaml(file, text)
  const document: Fields = isFields(value) ? value : {}
  const faults = headFaults(document)
  const { namespaces } = document
  const entries = Object.entries(isFields(namespaces) ? namespaces : {}).map(
    ([name, networks]) => [name, networksOf(name, networks, faults)] as const,
  )
  if (faults.length > 0)
    throw new ConfigError(`Cannot use ${file}:\n${faults.map((fault) => `  ${fault}`).join('\n')}`)
  return new Map(entries)
}
