/** A story that is not what happens fails, and so does one that nobody can understand: each says where. */
import { expect } from 'chai'
import { rejectionOf } from '../support/rejection.ts'
import { expandRanges, parseStories, subjectOf } from './story-parser.ts'
import { runStory } from './story-runner.ts'

const WEB = `given
  service web 10.96.0.10 TCP 80
  endpoints web 10.244.0.1
`

/** What is wrong with a story of these lines; the first of them is line 2 of the file. */
async function faultOf(lines: string): Promise<string> {
  return ((await rejectionOf(tell(lines))) as Error).message
}

async function tell(lines: string): Promise<void> {
  for (const story of parseStories('a.story', `story: it goes\n${lines}`)) await runStory(story)
}

describe('a story', () => {
  it('that is what happens passes', async () => {
    await tell(`${WEB}ipvsadm
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -A -t 10.96.0.10:80 -s rr
synced yes
settled yes
metric kube_ipvs_conflicts 0
reads
  tables
delete endpoints web-1
executed
  -e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 0
  -d -t 10.96.0.10:80 -r 10.244.0.1:8080
stop
nothing
delete service web
nothing
restart
executed in any order
  del KUBE-IPVS-IPS 10.96.0.10
  del KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  addr del 10.96.0.10/32 dev kube-ipvs0
  -D -t 10.96.0.10:80
`)
  })

  it('may have YAML for its objects', async () => {
    await tell(`given
  apiVersion: v1
  kind: Service
  metadata: { name: web, namespace: shop }
  spec: { clusterIP: 10.96.0.10, ports: [{ port: 80 }] }
  ---
  apiVersion: v1
  kind: Node
  metadata: { name: node-1 }
ipvsadm
  -A -t 10.96.0.10:80 -s rr
`)
  })

  describe('fails', () => {
    const CASES: readonly (readonly [name: string, lines: string, fault: string])[] = [
      [
        'where another line is executed',
        `${WEB}executed matching /^-/
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1`,
        `a.story:7: executed matching /^-/: expected (-), found (+)
    -A -t 10.96.0.10:80 -s rr
  - -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1
  + -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1`,
      ],
      [
        'where lines are executed in another order',
        `${WEB}executed matching /^-/
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  -A -t 10.96.0.10:80 -s rr`,
        `a.story:6: executed matching /^-/: expected (-), found (+)
  - -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  - -A -t 10.96.0.10:80 -s rr
  + -A -t 10.96.0.10:80 -s rr
  + -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1`,
      ],
      [
        'where a line is executed twice as often as told, in any order',
        `${WEB}executed matching /^-A/ in any order
  -A -t 10.96.0.10:80 -s rr
  -A -t 10.96.0.10:80 -s rr`,
        `a.story:7: executed matching /^-A/ in any order: expected (-), found (+)
  - -A -t 10.96.0.10:80 -s rr`,
      ],
      [
        'where a state has more',
        `${WEB}ipset
  KUBE-IPVS-IPS 10.96.0.10`,
        `a.story:5: ipset: expected (-), found (+)
  + KUBE-CLUSTER-IP 10.96.0.10,tcp:80`,
      ],
      [
        'where a state has nothing',
        `${WEB}addresses nothing`,
        'a.story:5: addresses nothing: expected (-), found (+)\n  + 10.96.0.10',
      ],
      ['where nothing should happen', `${WEB}delete service web\nnothing`, 'a.story:6: executed: expected'],
      [
        'where something is executed that is not told',
        `${WEB}delete service web\nlog nothing\nwait 1s\nnothing`,
        'a.story:5: executed after "delete service web": expected (-), found (+)\n  + addr del',
      ],
      [
        'where something is logged that is not told, also after `given`',
        `${WEB}somebody runs\n  ipvsadm -D -t 10.96.0.10:80\nwait 30s\nipvsadm
  -A -t 10.96.0.10:80 -s rr
  -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1`,
        'a.story:7: log after "wait 30s": expected (-), found (+)\n  + the kernel was changed by somebody else',
      ],
      [
        'where an Event is not told',
        `${WEB}  service b 10.96.0.10 TCP 80\nlog matching /nothing like it/ nothing`,
        'a.story:2: events after "given": expected (-), found (+)\n  + Warning VirtualServerConflict shop/',
      ],
      [
        'where a metric is another',
        `${WEB}metric kube_ipvs_conflicts 1`,
        'a.story:5: metric kube_ipvs_conflicts is 0, not 1',
      ],
      [
        'where there is no such metric',
        `${WEB}metric kube_ipvs_conflict 0`,
        'a.story:5: metric kube_ipvs_conflict is not there',
      ],
      ['where it is synced', `${WEB}synced no`, 'a.story:5: synced is yes, not no'],
      ['where it is settled', `${WEB}settled no`, 'a.story:5: settled is yes, not no'],
      [
        'where the kernel was read',
        `${WEB}reads nothing`,
        'a.story:5: reads nothing: expected (-), found (+)\n  + tables',
      ],
      [
        'where the kernel refuses what nobody tries',
        `kernel refuses -A -t 10.96.0.11:80 with EPERM\n${WEB}`,
        'nothing like "-A -t 10.96.0.11:80" was tried so often',
      ],
      [
        'where the kernel refuses less often than told',
        `kernel refuses -A with EPERM 9 times\n${WEB}log matching /x/ nothing`,
        'nothing like "-A" was tried so often',
      ],
      [
        'where the kernel is not asked as often as told',
        `kernel loses 1 changes after 9\n${WEB}`,
        'was not asked so often',
      ],
      [
        'where no change takes its time',
        `${WEB}the next change takes 1s, and meanwhile\n  node node-2\nwait 1s\nnothing`,
        'given no change that takes its time',
      ],
      [
        'where somebody changes nothing',
        `${WEB}somebody runs\n  ipvsadm -D -t 10.96.0.11:80`,
        'a.story:6: "ipvsadm -D -t 10.96.0.11:80" changes nothing',
      ],
      [
        'where a real server is not there',
        `${WEB}connections 10.96.0.10:80/TCP 10.244.0.9:8080 active 1`,
        'a.story:5: 10.96.0.10:80/TCP has no real server 10.244.0.9:8080',
      ],
      ['where what goes is not there', `${WEB}delete service wbe`, 'a.story:5: there is no Service shop/wbe'],
    ]
    for (const [name, lines, fault] of CASES)
      it(name, async () => {
        expect(await faultOf(lines)).to.contain(fault)
      })
  })

  describe('cannot be understood', () => {
    const CASES: readonly (readonly [name: string, lines: string, fault: string])[] = [
      [
        'with an unknown sentence',
        `${WEB}exeuted nothing`,
        'a.story:5: "exeuted nothing" is neither a step nor an expectation',
      ],
      [
        'with an unknown object',
        'given\n  servise web 10.96.0.10 TCP 80',
        'a.story:3: "servise" is none of: service',
      ],
      ['with an object without a name', 'given\n  service', 'a.story:3: "service" lacks a name'],
      [
        'with an unknown option',
        'given\n  service web 10.96.0.10 TCP 80 nodeport=1',
        'a.story:3: "nodeport" is none of',
      ],
      [
        'with an unknown protocol',
        'given\n  service web 10.96.0.10 TPC 80',
        'a.story:3: "TPC 80" is no protocol',
      ],
      [
        'with an address that is none',
        'given\n  service web 10.96.0 TCP 80',
        'a.story:3: "10.96.0" is no address',
      ],
      [
        'with an unknown state of an endpoint',
        'given\n  endpoints web 10.244.0.1(terminatig)',
        'a.story:3: "terminatig" is no state',
      ],
      [
        'with an endpoint that is none',
        'given\n  endpoints web 10.244.0.1(here',
        'a.story:3: "10.244.0.1(here" is no endpoint',
      ],
      [
        'with a removal of something unknown',
        'given\n  delete pod web',
        'a.story:3: delete service, endpoints or node',
      ],
      ['with YAML that is none', 'given\n  apiVersion: v1\n  kind: [', 'a.story:2: '],
      ['with an unknown errno', 'kernel refuses -A with EPRM', 'a.story:2: "EPRM" is no errno'],
      [
        'with an unknown errno of a lost call',
        'kernel loses 1 changes with EPRM',
        'a.story:2: "EPRM" is no errno',
      ],
      ['with what comes too late', `${WEB}scheduler lc`, 'a.story:5: this is for before the start'],
      ['with a time that is none', `${WEB}wait 10`, 'a.story:5: "10" is no time'],
      [
        'with an unknown resource',
        'start\nnothing\nlist service',
        'a.story:4: "service" is none of: services',
      ],
      [
        'with a command that is none',
        'kernel has\n  -X -t 10.96.0.10:80',
        'a.story:3: Cannot parse "-X -t 10.96.0.10:80"',
      ],
      [
        'with an expectation before any step',
        'executed nothing',
        'a.story:2: "executed nothing" comes before any step',
      ],
      [
        'with a step before the start',
        'apply\n  service web 10.96.0.10 TCP 80',
        'a.story:2: nothing has been started yet',
      ],
      ['with two starts', 'start\nnothing\nstart', 'a.story:4: it runs already'],
      [
        'with a step that is followed by nothing',
        `${WEB}wait 1s`,
        'a.story:5: what must be after "wait 1s"?',
      ],
      [
        'with a step that is followed by a step',
        `${WEB}wait 1s\nwait 2s\nnothing`,
        'a.story:5: what must be after "wait 1s"?',
      ],
      [
        'with a kernel that changes last',
        `${WEB}kernel answers again`,
        'a.story:5: nothing comes of "kernel answers again"',
      ],
      [
        'with lines below what has none',
        'start\n  service web 10.96.0.10 TCP 80',
        'a.story:2: nothing belongs below "start"',
      ],
      ['with nothing below what has lines', 'given', 'a.story:2: below "given" is nothing'],
      ['with an expectation without lines', `${WEB}executed`, 'a.story:5: "executed": its lines stand below'],
      ['with lines and nothing', `${WEB}executed nothing\n  -A`, 'a.story:5: "executed nothing": its lines'],
      ['with lines below a value', `${WEB}synced yes\n  x`, 'a.story:5: nothing belongs below "synced yes"'],
      [
        'with a line that belongs to nothing',
        '  service web 10.96.0.10 TCP 80',
        'a.story:2: "  service web 10.96.0.10 TCP 80" belongs to nothing',
      ],
      [
        'with a line that is not two spaces in',
        'given\n service web 10.96.0.10 TCP 80',
        'a.story:3: " service web 10.96.0.10 TCP 80" stands neither',
      ],
      ['without a sentence', '# nothing', 'a.story:2: "it goes" is empty'],
      [
        'with a title that another has',
        `${WEB}\nstory: it goes\n${WEB}`,
        'a.story:6: "it goes" is there twice',
      ],
    ]
    for (const [name, lines, fault] of CASES)
      it(name, async () => {
        expect(await faultOf(lines)).to.contain(fault)
      })
  })
})

describe('a file of stories', () => {
  it('begins with what it is about', () => {
    expect(subjectOf('a.story', '# Draining.\n\nstory: x')).to.equal('Draining.')
    expect(() => subjectOf('a.story', 'story: x')).to.throw('a.story:1: the first line says')
  })

  it('has a story, and nothing before it', () => {
    expect(() => parseStories('a.story', '# About.\n')).to.throw('a.story:1: there is no story')
    expect(() => parseStories('a.story', '# About.\ngiven\n')).to.throw('a.story:2: "given" stands before')
  })
})

describe('a range', () => {
  const CASES: readonly (readonly [text: string, lines: readonly string[]])[] = [
    ['s1 10.96.0.256', ['s1 10.96.0.256']],
    ['s{0..2}', ['s0', 's1', 's2']],
    ['s{9..11}', ['s9', 's10', 's11']],
    ['{08..10}', ['08', '09', '10']],
    ['{2..0}{a}', ['2{a}', '1{a}', '0{a}']],
    ['s{0..3}:{5..6}', ['s0:5', 's1:6', 's2:5', 's3:6']],
    ['-A -t 10.96.0.{255..257}:80', ['-A -t 10.96.0.255:80', '-A -t 10.96.1.0:80', '-A -t 10.96.1.1:80']],
  ]
  for (const [text, lines] of CASES)
    it(`${text}: ${lines.join(', ')}`, () => expect(expandRanges(text)).to.deep.equal(lines))
})
