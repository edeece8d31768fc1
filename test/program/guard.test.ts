/** What keeps the node on the network: which addresses must be free, so that the API server can be asked. */
import { expect } from 'chai'
import { type Address, parseAddress } from '../../src/model/address.ts'
import { guard } from '../../src/program/proxy.ts'

const V4 = parseAddress('192.168.50.250')!
const V6 = parseAddress('fd00::250')!

describe('guard', () => {
  afterEach(() => {
    delete process.env.KUBERNETES_SERVICE_HOST
  })

  interface World {
    readonly isLost?: boolean
    readonly apiAddresses?: readonly Address[]
    /** Sets that could not be read. */
    readonly faults?: readonly string[]
    readonly host?: string
  }
  const freed = ({ isLost = true, apiAddresses = [V4, V6], faults = [], host }: World): Address[] => {
    if (host !== undefined) process.env.KUBERNETES_SERVICE_HOST = host
    const { addressesToFree } = guard({
      lookout: { isDone: true },
      origin: { isLost: () => isLost, apiAddresses: () => new Set(apiAddresses) },
      kernel: { setFaults: new Map(faults.map((name) => [name, new Error('no such set')])) },
    })
    return [...addressesToFree()]
  }

  const table: readonly (readonly [string, World, readonly Address[]])[] = [
    ['nothing while the API server answers', { isLost: false }, []],
    ['its addresses when it does not', {}, [V4, V6]],
    ['nothing where none are known, as with manifests', { apiAddresses: [] }, []],
    [
      'none of a family whose set of cluster IPs is missing: it may be one',
      { faults: ['KUBE-CLUSTER-IP'] },
      [V6],
    ],
    ['the same of IPv6', { faults: ['KUBE-6-CLUSTER-IP'] }, [V4]],
    ['as ever, when another set is missing', { faults: ['KUBE-EXTERNAL-IP'] }, [V4, V6]],
    ['not the cluster IP that Pods are given for it', { host: V4 }, [V6]],
  ]
  for (const [what, world, expected] of table) {
    it(`frees ${what}`, () => expect(freed(world)).to.deep.equal(expected))
  }

  it('serves when it has been looked around', () => {
    for (const isDone of [false, true]) {
      const { hasLookedAround } = guard({
        lookout: { isDone },
        origin: { isLost: () => false, apiAddresses: () => new Set() },
        kernel: { setFaults: new Map() },
      })
      expect(hasLookedAround()).to.equal(isDone)
    }
  })
})
