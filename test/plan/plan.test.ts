import { expect } from 'chai'
import { formatOperation } from '../../src/model/ipvsadm.ts'
import { planChanges } from '../../src/plan/plan.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { addressSet, allObjects, claimsFor } from '../support/states.ts'

interface Case {
  readonly name: string
  /** In the kernel. */
  readonly known: string
  /** By the Services. */
  readonly wanted: string
  readonly foreign?: readonly string[]
  readonly expected: readonly string[]
}

function plan({ known, wanted, foreign = [] }: Case): string[] {
  const claims = claimsFor(wanted)
  const { state } = new FakeKernel(known)
  const operations = planChanges(allObjects(claims, state), {
    wanted: (key) => claims.get(key),
    known: state,
    foreign: addressSet(...foreign),
    isExcluded: () => false,
  })
  return operations.map(formatOperation)
}

const ONE = `-A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1`
const TWO = `${ONE}
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1`

describe('planChanges', () => {
  const cases: readonly Case[] = [
    { name: 'plans nothing for equal states', known: TWO, wanted: TWO, expected: [] },
    {
      name: 'makes the set member, the virtual server with its real servers, and last the address',
      known: '',
      wanted: TWO,
      expected: [
        'add KUBE-IPVS-IPS 10.96.0.10',
        '-A -t 10.96.0.10:80 -s rr',
        '-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1',
        '-a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1',
        'addr add 10.96.0.10/32 dev kube-ipvs0',
      ],
    },
    {
      name: 'breaks in the reverse order, and lets the kernel drop the real servers',
      known: TWO,
      wanted: '',
      expected: [
        'addr del 10.96.0.10/32 dev kube-ipvs0',
        '-D -t 10.96.0.10:80',
        'del KUBE-IPVS-IPS 10.96.0.10',
      ],
    },
    {
      name: 'adds a real server before it quiesces another',
      known: ONE,
      wanted: ONE.replace('10.244.0.1', '10.244.0.9'),
      expected: [
        '-a -t 10.96.0.10:80 -r 10.244.0.9:8080 -m -w 1',
        '-e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 0',
      ],
    },
    {
      name: 'makes all that is new before it breaks anything old',
      known: ONE,
      wanted: ONE.replaceAll('10.96.0.10', '10.96.0.11'),
      expected: [
        'add KUBE-IPVS-IPS 10.96.0.11',
        '-A -t 10.96.0.11:80 -s rr',
        '-a -t 10.96.0.11:80 -r 10.244.0.1:8080 -m -w 1',
        'addr add 10.96.0.11/32 dev kube-ipvs0',
        'addr del 10.96.0.10/32 dev kube-ipvs0',
        '-D -t 10.96.0.10:80',
        'del KUBE-IPVS-IPS 10.96.0.10',
      ],
    },
    {
      name: 'leaves alone what is already quiesced',
      known: TWO.replace('10.244.0.2:8080 -m -w 1', '10.244.0.2:8080 -m -w 0'),
      wanted: ONE,
      expected: [],
    },
    {
      name: 'raises a draining real server that is wanted again, in place',
      known: TWO.replace('10.244.0.2:8080 -m -w 1', '10.244.0.2:8080 -m -w 0'),
      wanted: TWO,
      expected: ['-e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1'],
    },
    {
      name: 'deletes a UDP real server at once',
      known: TWO.replaceAll('-t', '-u'),
      wanted: ONE.replaceAll('-t', '-u'),
      expected: [
        '-d -u 10.96.0.10:80 -r 10.244.0.2:8080',
        'conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 80 --reply-src 10.244.0.2 --reply-port-src 8080',
      ],
    },
    {
      name: 'quiesces an SCTP real server',
      known: TWO.replaceAll('-t', '--sctp-service'),
      wanted: ONE.replaceAll('-t', '--sctp-service'),
      expected: ['-e --sctp-service 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0'],
    },
    {
      name: 'does not quiesce under dh, which would refuse its clients',
      known: TWO.replace('-s rr', '-s dh'),
      wanted: ONE.replace('-s rr', '-s dh'),
      expected: ['-d -t 10.96.0.10:80 -r 10.244.0.2:8080'],
    },
    {
      name: 'changes the scheduler in place',
      known: TWO,
      wanted: TWO.replace('-s rr', '-s lc'),
      expected: ['-E -t 10.96.0.10:80 -s lc'],
    },
    {
      name: 'changes persistence in place',
      known: TWO,
      wanted: TWO.replace('-s rr', '-s rr -p 600'),
      expected: ['-E -t 10.96.0.10:80 -s rr -p 600'],
    },
    {
      name: 'corrects weight and forwarding method',
      known: ONE.replace('-m -w 1', '-g -w 7'),
      wanted: ONE,
      expected: ['-e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1'],
    },
    {
      name: 'makes nothing on an address of somebody else, and leaves it bound',
      known: ONE,
      wanted: ONE.replaceAll('10.96.0.10', '10.96.0.11'),
      foreign: ['10.96.0.10', '10.96.0.11'],
      expected: ['-D -t 10.96.0.10:80', 'del KUBE-IPVS-IPS 10.96.0.10'],
    },
    {
      name: 'plans IPv6 like IPv4',
      known: '',
      wanted: '-A -t [fd00::10]:80 -s rr',
      expected: [
        'add KUBE-6-IPVS-IPS fd00::10',
        '-A -t [fd00::10]:80 -s rr',
        'addr add fd00::10/128 dev kube-ipvs0',
      ],
    },
  ]
  for (const testCase of cases) {
    it(testCase.name, () => {
      expect(plan(testCase)).to.deep.equal(testCase.expected)
    })
  }
})
