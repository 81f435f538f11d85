"""Words of medicine that any radiologist equates, as groups; the first of a group stands for it.

No hypernyms, no hyponyms, no abbreviation that two findings share. A dataset adds its own in ``metadata["synonyms"]``.
"""

# ruff: noqa: E501  (a group a line)
GROUPS = """
radiograph: x-ray, xray, x ray image, radiography, plain film, plain radiograph, plain x-ray, roentgenogram, roentgenograph, conventional radiograph, conventional radiography, x-ray film, x-ray radiograph
chest radiograph: plain chest radiograph, plain chest x-ray, chest x-ray image, x-ray chest, radiograph chest, chest x-ray film, chest x-ray, cxr, chest film, chest radiography, chest plain film, thoracic radiograph, radiograph of chest, x-ray of chest
abdominal radiograph: abdominal x-ray, abdomen x-ray, axr, kub
mr: mri, mri scan, mr imaging, mr scan, magnetic resonance imaging, magnetic resonance, magnetic resonance image, magnetic resonance tomography, magnetic resonance imaging scan, mr image, nuclear magnetic resonance, nuclear magnetic resonance imaging, nmr imaging
functional mr: fmri, functional mri, functional magnetic resonance imaging
mra: mr angiography, magnetic resonance angiography, magnetic resonance angiogram, mr angiogram
mrcp: magnetic resonance cholangiopancreatography, mr cholangiopancreatography
ercp: endoscopic retrograde cholangiopancreatography
ct: computed tomography, computerized tomography, computed tomographic scan, computer tomography, cat scan, ct scan, ct imaging, computed axial tomography, computed tomography scan, ct image, ct tomography, computerized axial tomography, computerized tomography scan
cta: ct angiography, computed tomography angiography, ct angiogram, computed tomographic angiography
ctpa: ct pulmonary angiography, ct pulmonary angiogram, computed tomography pulmonary angiography, computed tomography pulmonary angiogram
hrct: high resolution ct, high-resolution computed tomography
cbct: cone beam ct, cone-beam computed tomography
pet: positron emission tomography, pet scan, positron emission tomography scan, pet imaging
pet ct: positron emission tomography computed tomography, pet ct scan
spect: single photon emission computed tomography, single-photon emission ct
ultrasound: us, sonography, ultrasonography, usg, sonogram, ultrasound scan, ultrasound imaging, ultrasonogram, ultrasound image, u s, sonographic imaging, medical ultrasound
echocardiography: echocardiogram, cardiac ultrasound, cardiac echo, heart ultrasound
transthoracic echocardiography: tte, transthoracic echocardiogram
transesophageal echocardiography: tee, transesophageal echocardiogram
electrocardiogram: ecg, ekg, electrocardiography
electroencephalogram: eeg, electroencephalography
electromyography: emg, electromyogram
mammography: mammogram
optical coherence tomography: oct
fundus photograph: fundus photography, fundus photo, fundus image, color fundus photography, color fundus photograph
fluorescein angiography: ffa, fluorescein angiogram, fundus fluorescein angiography
digital subtraction angiography: dsa
dual energy x ray absorptiometry: dexa, dxa, dexa scan, dual energy radiograph absorptiometry
flair: fluid attenuated inversion recovery, t2 flair, t2 weighted flair
t1: t1 weighted, t1w, t1 weighted image, t1 weighted mr, t1 weighted imaging, t1 sequence, t1 weighted sequence
t2: t2 weighted, t2w, t2 weighted image, t2 weighted mr, t2 weighted imaging, t2 sequence, t2 weighted sequence
dwi: diffusion weighted imaging, diffusion weighted, diffusion weighted image, diffusion weighted mr
adc: apparent diffusion coefficient
swi: susceptibility weighted imaging, susceptibility weighted image
pd: proton density, proton density weighted
stir: short tau inversion recovery, short ti inversion recovery
pa: posteroanterior, postero anterior, pa view, posteroanterior view, pa projection, posteroanterior projection, posterior anterior, posterior to anterior
ap: anteroposterior, antero posterior, ap view, anteroposterior view, ap projection, anteroposterior projection, anterior posterior, anterior to posterior
axial: axial plane, transverse plane, transverse, axial view, axial section, transaxial, axial slice, transverse section, transversal, transaxial plane, horizontal plane, axial image
coronal: coronal plane, coronal view, coronal section, frontal plane, coronal slice, coronal image
sagittal: sagittal plane, sagittal view, sagittal section, sagittal slice, sagittal image
lateral: lateral view, lateral projection
hematoxylin and eosin: h&e, h e, he stain, h&e stain, h and e, hematoxylin and eosin stain, hematoxylin eosin, h and e stain, hematoxylin eosin stain, h e stain, h&e staining, hematoxylin and eosin staining
periodic acid schiff: pas stain, pas, periodic acid schiff stain
immunohistochemistry: ihc, immunohistochemical stain, immunohistochemical staining
biopsy: bx
fine needle aspiration: fna, fine needle aspirate, fine needle aspiration cytology, fnac
myocardial infarction: heart attack, mi, acute myocardial infarction heart attack
st elevation myocardial infarction: stemi
hypertension: high blood pressure, htn, arterial hypertension, raised blood pressure, elevated blood pressure
hypotension: low blood pressure
diabetes mellitus: dm, diabetes
type 2 diabetes mellitus: t2dm, type 2 diabetes, type ii diabetes, type ii diabetes mellitus, diabetes mellitus type 2, type 2 dm, diabetes type 2
type 1 diabetes mellitus: t1dm, type 1 diabetes, type i diabetes, type i diabetes mellitus, diabetes mellitus type 1, diabetes type 1
stroke: cerebrovascular accident, cva, brain attack
transient ischemic attack: tia, mini stroke, ministroke
cardiomegaly: enlarged heart, heart enlargement, cardiac enlargement, enlargement of heart, enlarged cardiac silhouette, cardiac silhouette enlargement, heart is enlarged
splenomegaly: enlarged spleen, spleen enlargement, splenic enlargement, enlargement of spleen
hepatomegaly: enlarged liver, liver enlargement, hepatic enlargement, enlargement of liver
hepatosplenomegaly: enlarged liver and spleen, enlargement of liver and spleen
lymphadenopathy: enlarged lymph node, lymph node enlargement, adenopathy, swollen lymph node
thyromegaly: goiter, enlarged thyroid, thyroid enlargement, goitre
nephrolithiasis: kidney stone, renal stone, renal calculus, kidney calculus, renal calculi
urolithiasis: urinary stone, urinary calculus, urinary tract stone
ureterolithiasis: ureteral stone, ureteric stone, ureteral calculus, ureteric calculus
cholelithiasis: gallstone, gall stone, biliary calculus, gallbladder stone, gallbladder calculus
choledocholithiasis: common bile duct stone, cbd stone
pulmonary embolism: pe, pulmonary embolus, pulmonary thromboembolism, lung embolism, pulmonary emboli
deep vein thrombosis: dvt, deep venous thrombosis
congestive heart failure: chf, congestive cardiac failure, ccf
heart failure: cardiac failure
heart: cor
chronic obstructive pulmonary disease: copd, chronic obstructive lung disease, chronic obstructive airway disease
acute respiratory distress syndrome: ards
tuberculosis: tb
pulmonary tuberculosis: ptb, lung tuberculosis, pulmonary tb
covid 19: covid, covid19, coronavirus disease 2019, sars cov 2 infection, covid 19 infection
urinary tract infection: uti
chronic kidney disease: ckd
acute kidney injury: aki
end stage renal disease: esrd, end stage kidney disease
multiple sclerosis: ms
amyotrophic lateral sclerosis: als, lou gehrig disease
alzheimer disease: alzheimer, alzheimers disease
parkinson disease: parkinson
hepatocellular carcinoma: hcc, hepatoma
renal cell carcinoma: rcc, renal cell cancer
squamous cell carcinoma: scc, squamous carcinoma
basal cell carcinoma: bcc
small cell lung cancer: sclc, small cell lung carcinoma, small cell carcinoma of lung
non small cell lung cancer: nsclc, non small cell lung carcinoma
glioblastoma: gbm, glioblastoma multiforme
acute myeloid leukemia: aml, acute myelogenous leukemia, acute myeloblastic leukemia
acute lymphoblastic leukemia: acute lymphocytic leukemia
chronic lymphocytic leukemia: cll
chronic myeloid leukemia: cml, chronic myelogenous leukemia
leiomyoma: fibroid, uterine fibroid, uterine leiomyoma, fibroid uterus
lung cancer: lung carcinoma, carcinoma of lung, bronchogenic carcinoma, cancer of lung
breast cancer: breast carcinoma, carcinoma of breast, cancer of breast
colon cancer: colon carcinoma, carcinoma of colon, cancer of colon, colonic carcinoma, colonic cancer
prostate cancer: prostate carcinoma, carcinoma of prostate, cancer of prostate, prostatic carcinoma
metastasis: metastatic disease, metastatic lesion, met, mets
abdominal aortic aneurysm: aaa
arteriovenous malformation: avm
subarachnoid hemorrhage: sah
subdural hematoma: sdh
epidural hematoma: extradural hematoma, edh
intracranial hemorrhage: ich, intracranial bleed, intracranial bleeding
intracerebral hemorrhage: intracerebral bleed, cerebral hemorrhage
hemorrhage: bleeding, bleed
small bowel obstruction: sbo, small intestinal obstruction
bowel obstruction: intestinal obstruction
small bowel: small intestine
large bowel: large intestine
bowel: intestine, gut
pneumoperitoneum: free intraperitoneal air, free air under diaphragm, free peritoneal air
pleural effusion: fluid in pleural space, pleural fluid, fluid in pleural cavity, pleural fluid collection
pericardial effusion: fluid in pericardial sac, pericardial fluid
pulmonary edema: lung edema
ground glass opacity: ggo, ground glass opacification, ground glass
fracture: broken bone, bone fracture, fx
cancer: malignancy, malignant tumor, malignant neoplasm
neoplasm: tumor
kidney: ren
appendicitis: inflammation of appendix, appendiceal inflammation, inflamed appendix
cholecystitis: inflammation of gallbladder, gallbladder inflammation, inflamed gallbladder
hepatitis: inflammation of liver, liver inflammation
pancreatitis: inflammation of pancreas, pancreatic inflammation
osteoarthritis: degenerative joint disease, djd, oa
stone: calculus
mediolateral oblique: mlo, medio lateral oblique, mlo view, mediolateral oblique view
craniocaudal: cranio caudal, cc view, craniocaudal view
cardiopulmonary resuscitation: cpr
coronary artery bypass graft: cabg, coronary artery bypass grafting, coronary bypass
percutaneous coronary intervention: pci
transurethral resection of prostate: turp
transjugular intrahepatic portosystemic shunt: tips
percutaneous transhepatic cholangiography: ptc
systemic lupus erythematosus: sle, lupus
disseminated intravascular coagulation: dic
immune thrombocytopenic purpura: itp, idiopathic thrombocytopenic purpura, immune thrombocytopenia
acquired immunodeficiency syndrome: aids, acquired immune deficiency syndrome
polycystic ovary syndrome: pcos, polycystic ovarian syndrome
intrauterine device: iud, intrauterine contraceptive device, iucd
autosomal dominant polycystic kidney disease: adpkd
interstitial lung disease: ild
idiopathic pulmonary fibrosis: ipf
obstructive sleep apnea: osa
ventricular septal defect: vsd
atrial septal defect: asd
patent ductus arteriosus: pda
tetralogy of fallot: tof
mitral valve prolapse: mvp
ventricular fibrillation: vf, vfib
ventricular tachycardia: vt
supraventricular tachycardia: svt
left bundle branch block: lbbb
right bundle branch block: rbbb
non st elevation myocardial infarction: nstemi
traumatic brain injury: tbi
intracranial pressure: icp
normal pressure hydrocephalus: nph
age related macular degeneration: amd, armd
diabetic retinopathy: dr
retinal detachment: rd
intraocular pressure: iop
visual evoked potential: vep
lumbar puncture: lp, spinal tap
packed red blood cell: prbc
complete blood count: cbc, full blood count, fbc
erythrocyte sedimentation rate: esr
c reactive protein: crp
white blood cell count: wbc count
body mass index: bmi
blood pressure: bp
heart rate: hr
ejection fraction: ef
left ventricular hypertrophy: lvh
developmental dysplasia of hip: ddh
slipped capital femoral epiphysis: scfe
temporomandibular joint: tmj
metacarpophalangeal joint: mcp joint
proximal interphalangeal joint: pip joint
distal interphalangeal joint: dip joint
diffuse large b cell lymphoma: dlbcl
hodgkin lymphoma: hodgkin disease
non hodgkin lymphoma: nhl
ductal carcinoma in situ: dcis
gastrointestinal stromal tumor: gist
neurofibromatosis type 1: nf1, von recklinghausen disease
tuberous sclerosis: tuberous sclerosis complex
nonsteroidal anti inflammatory drug: nsaid, non steroidal anti inflammatory drug
proton pump inhibitor: ppi
angiotensin converting enzyme inhibitor: ace inhibitor, acei
selective serotonin reuptake inhibitor: ssri
low molecular weight heparin: lmwh
tissue plasminogen activator: tpa, t pa
radiotherapy: radiation therapy, xrt
chemotherapy: chemo
esophagogastroduodenoscopy: egd, ogd, upper gi endoscopy, gastroscopy, upper endoscopy
posterior cerebral artery: pca
middle cerebral artery: mca
anterior cerebral artery: aca
internal carotid artery: ica
external carotid artery: eca
superior mesenteric artery: sma
inferior mesenteric artery: ima
right coronary artery: rca
left circumflex artery: lcx
sinoatrial node: sa node, sinus node
atrioventricular node: av node
posterior communicating artery: pcom
ventriculoperitoneal shunt: vp shunt
intensive care unit: icu
whipple procedure: pancreaticoduodenectomy, pancreatoduodenectomy
rheumatoid arthritis: ra
benign prostatic hyperplasia: bph, benign prostatic hypertrophy
gastroesophageal reflux disease: gerd, gord, gastroesophageal reflux, acid reflux disease
inflammatory bowel disease: ibd
peptic ulcer disease: pud
atrial fibrillation: af, afib, a fib
coronary artery disease: cad, coronary heart disease
peripheral artery disease: peripheral arterial disease
osteonecrosis: avascular necrosis, avn, aseptic necrosis
tibia: shinbone, shin bone
femur: thigh bone, thighbone
clavicle: collarbone, collar bone
scapula: shoulder blade
patella: kneecap, knee cap
sternum: breastbone, breast bone
mandible: jawbone, lower jaw
calcaneus: heel bone
coccyx: tailbone
humerus: upper arm bone
larynx: voice box
trachea: windpipe
pharynx: throat
esophagus: gullet, food pipe
uterus: womb
abdomen: belly
skull: cranium
vertebral column: spine, spinal column, backbone
eardrum: tympanic membrane
red blood cell: rbc, erythrocyte, red cell, red blood corpuscle
white blood cell: wbc, leukocyte, leucocyte, white cell, white blood corpuscle
platelet: thrombocyte, plt
neutrophil: polymorphonuclear leukocyte, pmn, polymorphonuclear neutrophil, neutrophil granulocyte
eosinophil: eosinophil granulocyte, eosinophilic granulocyte
hemoglobin: hb, hgb
cerebrospinal fluid: csf
central nervous system: cns
gastrointestinal tract: gi tract, digestive tract, alimentary tract, gastrointestinal system, gi system
gastrointestinal: gi
inferior vena cava: ivc
superior vena cava: svc
left ventricle: lv, left cardiac ventricle
right ventricle: rv, right cardiac ventricle
left atrium: la
right atrium: right cardiac atrium
left anterior descending artery: lad, left anterior descending, left anterior descending coronary artery
common bile duct: cbd
anterior cruciate ligament: acl
posterior cruciate ligament: pcl
lymph node: lymph gland
endotracheal tube: ett, et tube, breathing tube
nasogastric tube: ng tube, ngt
central venous catheter: cvc, central line, central venous line
chest tube: thoracostomy tube, intercostal drain, chest drain
pacemaker: cardiac pacemaker
right upper lobe: rul, upper lobe of right lung, right upper lung lobe, right lung upper lobe, right upper lobe of lung
right middle lobe: rml, middle lobe of right lung, right lung middle lobe, right middle lobe of lung
right lower lobe: rll, lower lobe of right lung, right lung lower lobe, right lower lobe of lung
left upper lobe: lul, upper lobe of left lung, left lung upper lobe, left upper lobe of lung
left lower lobe: lll, lower lobe of left lung, left lung lower lobe, left lower lobe of lung
right upper quadrant: ruq
left upper quadrant: luq
right lower quadrant: rlq
left lower quadrant: llq
bilateral: both side, bilaterally, both, left and right, right and left, both left and right, on both side
right: right side, right hand side, right sided, on right, on right side
left: left side, left hand side, left sided, on left, on left side
upper: superior
lower: inferior
acetaminophen: paracetamol, tylenol
epinephrine: adrenaline
norepinephrine: noradrenaline
albuterol: salbutamol
furosemide: frusemide, lasix
lidocaine: lignocaine
meperidine: pethidine
acetylsalicylic acid: aspirin, asa
intravenous: iv, intravenously
intramuscular: im, intramuscularly
subcutaneous: sc, subq, subcutaneously
oral: by mouth, po, orally, per os
computed radiography: cr
contrast agent: contrast medium, contrast material, contrast, contrast dye
hyperintense: high signal, high signal intensity, hyperintensity, hyperintense signal
hypointense: low signal, low signal intensity, hypointensity, hypointense signal
hyperdense: high density, high attenuation, hyperattenuating, hyperdensity
hypodense: low density, low attenuation, hypoattenuating, hypodensity
circular: round, rounded
oval: ovoid, oval shaped
shortness of breath: dyspnea, sob, breathlessness
pruritus: itching
fever: pyrexia
urticaria: hives
epistaxis: nosebleed, nose bleed
jaundice: icterus
low blood sugar: hypoglycemia
high blood sugar: hyperglycemia
human immunodeficiency virus: hiv
human papillomavirus: hpv
epstein barr virus: ebv
cytomegalovirus: cmv
staphylococcus aureus: s aureus, staph aureus
streptococcus pneumoniae: s pneumoniae, pneumococcus
escherichia coli: e coli
helicobacter pylori: h pylori
mycobacterium tuberculosis: m tuberculosis, tubercle bacillus
"""
# One word in place of another wherever it stands: the adjective of an organ means the organ.
ADJECTIVES = {
    "pulmonary": "lung", "hepatic": "liver", "renal": "kidney", "cardiac": "heart", "splenic": "spleen",
    "gastric": "stomach", "pancreatic": "pancreas", "colonic": "colon", "esophageal": "esophagus",
    "uterine": "uterus", "ovarian": "ovary", "prostatic": "prostate", "tracheal": "trachea", "aortic": "aorta",
    "osseous": "bone", "bony": "bone", "thoracic": "chest", "thorax": "chest", "abdominal": "abdomen",
    "mammary": "breast", "spinal": "spine", "pelvic": "pelvis", "femoral": "femur", "tibial": "tibia",
    "humeral": "humerus", "clavicular": "clavicle", "thyroidal": "thyroid",
}  # fmt: skip


def groups(table: str) -> dict[str, list[str]]:
    """The first phrase of each line → the others."""
    lines = (line.partition(":") for line in table.strip().splitlines())
    return {first.strip(): [phrase.strip() for phrase in rest.split(",")] for first, _, rest in lines}
