"""Many runs as one: what a sweep consists of, which of its members share a program, and how they learn side by side.

| file | what is there |
|---|---|
| members | the members that a command line asks for: grids, random draws, seeds; each a config and a folder name |
| groups | which of them one compiled program can train: their configs differ in Hyper and the seed alone |
| wave | the program of S members at once, over a mesh, and how much memory it takes |
| fleet | the training loop of a wave: each member has rows, evaluations, checkpoints and an end of its own |
| flags | the flags of an engine, as its Options declare them |
| ledger | the sweep's folder: how far each member is |
| population | what a user asks of a population: members that take over from each other |
| breeding | the training loop of a population |
| lineage | who descends from whom: the record of a population's exploits |
| family | the picture of that |
| summary | the table at the end, what each setting reached, the best member |
| sweep | all of it, from the members to the summary, whatever engine of host/engines trains them |

Letters in shapes: S members of a wave, N environments of each.
"""
