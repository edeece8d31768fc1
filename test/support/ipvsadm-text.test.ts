import { expect } from 'chai'
import { formatCommand, formatOperation } from '../../src/model/ipvsadm.ts'
import { parseOperation } from './ipvsadm-text.ts'

const LINES = [
  '-A -t 10.96.0.10:80 -s rr',
  '-A -u [fd00::1]:53 -s sh -p 600 -b sh-fallback',
  '-E -t 10.96.0.10:80 -s wlc',
  '-D --sctp-service 10.96.0.10:80',
  '-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1',
  '-e -t [fd00::1]:80 -r [fd00:1::1]:8080 -g -w 0',
  '-d -t 10.96.0.10:80 -r 10.244.0.1:8080',
  'addr add 10.96.0.10/32 dev kube-ipvs0',
  'addr del fd00::1/128 dev kube-ipvs0',
  'add KUBE-CLUSTER-IP 10.96.0.10,tcp:80',
  'del KUBE-6-IPVS-IPS fd00::1',
]

describe('parseOperation', () => {
  for (const line of LINES)
    it(`reads "${line}", also as a command`, () => {
      const operation = parseOperation(line)

      expect(formatOperation(operation)).to.equal(line)
      expect(parseOperation(formatCommand(operation))).to.deep.equal(operation)
    })

  for (const line of [
    '-X -t 10.96.0.10:80',
    '-D -t 10.96.0:80',
    'addr add 10.96.0/32 dev kube-ipvs0',
    'add SOMETHING 1',
    '',
  ])
    it(`refuses "${line}"`, () => {
      expect(() => parseOperation(line)).to.throw('Cannot parse')
    })
})
