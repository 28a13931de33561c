// System V IPC and POSIX message queues.
// user: root
// time: 20
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
#include <signal.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/sem.h>
#include <sys/msg.h>
#include <sys/wait.h>
#include <sys/mman.h>
#include <mqueue.h>
#include <fcntl.h>
#include <sched.h>
#include <time.h>
#include <poll.h>
union semun { int val; struct semid_ds *buf; unsigned short *array; struct seminfo *__buf; };
#define P(fmt,...) do{ printf(fmt "\n", ##__VA_ARGS__); fflush(stdout);}while(0)
static const char*E(long r){ return r<0? strerrorname_np(errno):"ok"; }
static void alrm(int s){}
struct m { long t; char x[64]; };
int main(){
 key_t k=0x12345678; int id,id2; 
 setvbuf(stdout,0,_IONBF,0);
 unshare(CLONE_NEWIPC); /* objects of others on the machine, if that can be */
 /* shm */
 P("shmget none %s",E(shmget(k,4096,0)));
 P("shmget 0 %s",E(shmget(k,0,IPC_CREAT|0600)));
 id=shmget(k,5000,IPC_CREAT|IPC_EXCL|0600); P("shmget %s",E(id));
 P("excl %s",E(shmget(k,5000,IPC_CREAT|IPC_EXCL|0600)));
 P("bigger %s",E(shmget(k,9000,0600)));
 P("same %d",shmget(k,100,0)==id);
 struct shmid_ds d; shmctl(id,IPC_STAT,&d); P("size %zu nattch %ld mode %o cpid %d lpid %d",d.shm_segsz,d.shm_nattch,d.shm_perm.mode,d.shm_cpid==getpid(),d.shm_lpid);
 char*p=shmat(id,0,0), *q=shmat(id,0,SHM_RDONLY); P("at %d %d",p!=(void*)-1,q!=(void*)-1);
 strcpy(p,"hello"); P("q %s",q);
 shmctl(id,IPC_STAT,&d); P("nattch %ld",d.shm_nattch);
 int pid=fork(); if(!pid){ struct shmid_ds e; shmctl(id,IPC_STAT,&e); P("child nattch %ld",e.shm_nattch); p[4999]='x'; if(shmdt(q)) P("dt?"); shmctl(id,IPC_STAT,&e); P("child nattch %ld",e.shm_nattch); _exit(0);} waitpid(pid,0,0);
 usleep(100000); shmctl(id,IPC_STAT,&d); P("nattch %ld %c",d.shm_nattch,q[4999]);
 P("dt bad %s",E(shmdt(p+4096))); P("dt bad2 %s",E(shmdt((void*)1)));
 P("at unaligned %s",E((long)shmat(id,p+1,0)));
 P("at busy %s",E((long)shmat(id,p,0)));
 P("at remap %d",shmat(id,q,SHM_REMAP)==q); q[1]='E'; P("%s",p);
 P("rmid %s",E(shmctl(id,IPC_RMID,0)));
 shmctl(id,IPC_STAT,&d); P("key %d mode %o nattch %ld",d.shm_perm.__key,d.shm_perm.mode,d.shm_nattch);
 P("get after %s",E(shmget(k,0,0)));
 char*r=shmat(id,0,0); P("at dest %d",r!=(void*)-1);
 P("dt %s %s %s",E(shmdt(p)),E(shmdt(q)),E(shmdt(r)));
 P("dt again %s",E(shmdt(p)));
 P("stat gone %s",E(shmctl(id,IPC_STAT,&d)));
 id=shmget(IPC_PRIVATE,8192,0600); p=shmat(id,0,0); shmctl(id,IPC_RMID,0); munmap(p,4096); shmctl(id,IPC_STAT,&d); P("half nattch %ld",d.shm_nattch); munmap(p+4096,4096); P("gone %s",E(shmctl(id,IPC_STAT,&d)));
 id=shmget(IPC_PRIVATE,3*4096,0600); p=shmat(id,0,0); munmap(p+4096,4096); shmctl(id,IPC_STAT,&d); P("split nattch %ld",d.shm_nattch); P("dt %s",E(shmdt(p))); shmctl(id,IPC_STAT,&d); P("nattch %ld",d.shm_nattch);
 p=shmat(id,0,SHM_RDONLY); pid=fork(); if(!pid){ signal(SIGSEGV,SIG_DFL); *p=1; _exit(0);} int st; waitpid(pid,&st,0); P("ro write sig %d",WTERMSIG(st));
 P("mprotect ro %s",E(mprotect(p,4096,PROT_READ|PROT_WRITE)));
 shmctl(id,IPC_RMID,0);
 P("bad cmd %s",E(shmctl(id,99,0)));
 /* sem */
 P("semget 0 %s",E(semget(k,0,IPC_CREAT|0600)));
 id=semget(k,3,IPC_CREAT|0600); P("semget %s",E(id)); P("more %s",E(semget(k,4,0)));
 union semun u; unsigned short a[3]={1,2,3}; u.array=a; P("setall %s",E(semctl(id,0,SETALL,u)));
 struct sembuf s1={0,-1,0}, s2[2]={{1,-1,0},{2,-5,IPC_NOWAIT}};
 P("op %s",E(semop(id,&s1,1))); P("atomic %s",E(semop(id,s2,2))); P("val %d %d",semctl(id,1,GETVAL),semctl(id,2,GETVAL));
 s1.sem_flg=IPC_NOWAIT; P("nowait %s",E(semop(id,&s1,1))); s1.sem_flg=0;
 struct timespec ts={0,100000000}; P("timed %s",E(semtimedop(id,&s1,1,&ts)));
 s1.sem_num=9; P("efbig %s",E(semop(id,&s1,1))); s1.sem_num=0; P("0 ops %s",E(semop(id,&s1,0))); P("many %s",E(semop(id,&s1,501)));
 u.val=40000; P("setval %s",E(semctl(id,0,SETVAL,u))); u.val=32767; P("setval %s",E(semctl(id,0,SETVAL,u))); s1.sem_op=1; P("erange %s",E(semop(id,&s1,1))); u.val=0; semctl(id,0,SETVAL,u);
 P("badnum %s",E(semctl(id,7,GETVAL)));
 pid=fork(); if(!pid){ struct sembuf w={0,-2,0}; int r=semop(id,&w,1); P("child woke %s",E(r)); _exit(0);} usleep(200000); P("ncnt %d zcnt %d",semctl(id,0,GETNCNT),semctl(id,0,GETZCNT)); s1.sem_op=1; semop(id,&s1,1); usleep(50000); P("val %d",semctl(id,0,GETVAL)); semop(id,&s1,1); waitpid(pid,0,0); P("val %d pid %d",semctl(id,0,GETVAL),semctl(id,0,GETPID)==pid);
 pid=fork(); if(!pid){ struct sembuf w={1,+5,SEM_UNDO}; semop(id,&w,1); P("child val %d",semctl(id,1,GETVAL)); struct sembuf z={2,-3,SEM_UNDO}; semop(id,&z,1); _exit(0);} waitpid(pid,0,0); usleep(50000); P("undone %d %d",semctl(id,1,GETVAL),semctl(id,2,GETVAL));
 s1.sem_num=1; pid=fork(); if(!pid){ struct sembuf w={1,0,0}; signal(SIGALRM,alrm); struct sigaction sa={.sa_handler=alrm,.sa_flags=SA_RESTART}; sigaction(SIGALRM,&sa,0); alarm(1); int r=semop(id,&w,1); P("intr %s",E(r)); r=semop(id,&w,1); P("rm %s",E(r)); _exit(0);} usleep(1300000); P("zcnt %d",semctl(id,1,GETZCNT)); P("rmid %s",E(semctl(id,0,IPC_RMID))); waitpid(pid,0,0); P("after %s",E(semop(id,&s1,1)));
 /* msg */
 id=msgget(k,IPC_CREAT|0600); P("msgget %s",E(id)); struct m m={5,"five"}; P("snd %s",E(msgsnd(id,&m,5,0))); m.t=0; P("type0 %s",E(msgsnd(id,&m,5,0))); P("huge %s",E(msgsnd(id,&m,100000,0)));
 m.t=3; strcpy(m.x,"three"); msgsnd(id,&m,6,0); m.t=7; strcpy(m.x,"seven"); msgsnd(id,&m,6,0);
 struct m g; int n; struct msqid_ds md; msgctl(id,IPC_STAT,&md); P("qnum %lu cb %lu qb %lu lspid %d",md.msg_qnum,md.__msg_cbytes,md.msg_qbytes,md.msg_lspid==getpid());
 n=msgrcv(id,&g,64,1,MSG_COPY|IPC_NOWAIT); P("copy %d %ld %s",n,g.t,g.x);
 n=msgrcv(id,&g,2,7,0); P("e2big %s",E(n)); n=msgrcv(id,&g,2,7,MSG_NOERROR); P("noerror %d %ld",n,g.t);
 n=msgrcv(id,&g,64,-4,0); P("neg %d %ld %s",n,g.t,g.x); n=msgrcv(id,&g,64,5,MSG_EXCEPT|IPC_NOWAIT); P("except %s",E(n)); n=msgrcv(id,&g,64,0,0); P("any %d %ld",n,g.t); n=msgrcv(id,&g,64,0,IPC_NOWAIT); P("empty %s",E(n));
 pid=fork(); if(!pid){ int n=msgrcv(id,&g,64,9,0); P("got %d %ld",n,g.t); struct sigaction sa={.sa_handler=alrm,.sa_flags=SA_RESTART}; sigaction(SIGALRM,&sa,0); alarm(1); n=msgrcv(id,&g,64,9,0); P("intr %s",E(n)); n=msgrcv(id,&g,64,9,0); P("rm %s",E(n)); _exit(0);} usleep(200000); m.t=8; msgsnd(id,&m,1,0); m.t=9; msgsnd(id,&m,1,0); usleep(1500000);
 md.msg_qbytes=8; msgctl(id,IPC_STAT,&md); md.msg_qbytes=3; P("set %s",E(msgctl(id,IPC_SET,&md))); m.t=1; P("full %s",E(msgsnd(id,&m,3,IPC_NOWAIT))); P("rmid %s",E(msgctl(id,IPC_RMID,0))); waitpid(pid,0,0); P("gone %s",E(msgsnd(id,&m,3,0)));
 /* other user */
 id=shmget(k,4096,IPC_CREAT|0600); int sid=semget(k,1,IPC_CREAT|0640); int qid=msgget(k,IPC_CREAT|0622);
 pid=fork(); if(!pid){ setgid(65534); setuid(65534); P("u shmget %s",E(shmget(k,0,0))); P("u shmget r %s",E(shmget(k,0,0400))); P("u shmat %s",E((long)shmat(id,0,0))); P("u stat %s",E(shmctl(id,IPC_STAT,&d))); P("u rmid %s",E(shmctl(id,IPC_RMID,0))); P("u getval %s",E(semctl(sid,0,GETVAL))); m.t=1; P("u snd %s",E(msgsnd(qid,&m,1,0))); P("u rcv %s",E(msgrcv(qid,&m,1,0,0))); P("u rm %s",E(msgctl(qid,IPC_RMID,0))); _exit(0);} waitpid(pid,0,0);
 if(system("grep -c 305419896 /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg")){}
 shmctl(id,IPC_RMID,0); semctl(sid,0,IPC_RMID); msgctl(qid,IPC_RMID,0);
 /* mq */
 mq_unlink("/xq"); struct mq_attr at={.mq_maxmsg=2,.mq_msgsize=16}; mqd_t q1=mq_open("/xq",O_RDWR|O_CREAT,0600,&at); P("mq %s",E(q1)); struct pollfd pf={q1,POLLIN|POLLOUT}; poll(&pf,1,0); P("poll %x",pf.revents); mq_send(q1,"a",2,1); mq_send(q1,"b",2,9); poll(&pf,1,0); P("poll %x",pf.revents); fcntl(q1,F_SETFL,O_NONBLOCK); P("full %s",E(mq_send(q1,"c",2,0))); char b[32]; unsigned pr; n=mq_receive(q1,b,32,&pr); P("rcv %d %s %u",n,b,pr); P("small %s",E(mq_receive(q1,b,8,&pr))); n=read(q1,b,32); b[n>0?n:0]=0; P("read %.11s",b); struct stat sb; P("lseek %ld", (long)lseek(q1,0,SEEK_CUR));
 char l[64]; snprintf(b,32,"/proc/self/fd/%d",q1); n=readlink(b,l,63); l[n]=0; P("link %s",l); P("write %s",E(write(q1,"x",1)));
 P("unlink %s %s",E(mq_unlink("/xq")),E(mq_unlink("/xq"))); P("open %s",E(mq_open("/xq",O_RDONLY))); P("name %s %s",E(mq_open("/a/b",O_RDONLY|O_CREAT,0600,0)),E(mq_open("/",O_RDONLY|O_CREAT,0600,0))); 
 at.mq_maxmsg=0; P("attr %s",E(mq_open("/xq",O_RDWR|O_CREAT,0600,&at))); 
 return 0; }
